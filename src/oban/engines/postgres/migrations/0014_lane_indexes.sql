-- Claiming: jobs that have a lane are found by it, the others by an index that holds them alone, so
-- that neither keeps the other waiting.
-- transaction: no

create index concurrently if not exists oban_jobs_lane_index
  on {prefix}.oban_jobs (queue, lane, priority, scheduled_at, id)
  where state = 'available' and attempt < max_attempts and lane is not null;

create index concurrently if not exists oban_jobs_free_index
  on {prefix}.oban_jobs (queue, priority, scheduled_at, id)
  where state = 'available' and attempt < max_attempts and lane is null;

-- Which shared limits are in use.
create index concurrently if not exists oban_jobs_running_lane_index
  on {prefix}.oban_jobs (lane)
  where lane is not null and (state = 'executing' or stopping_at is not null);

drop index if exists {prefix}.oban_jobs_available_index;
