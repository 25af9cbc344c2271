-- name: now
-- The database's clock, in seconds since 1970.
select cast(extract(epoch from statement_timestamp()) as float8) as now

-- name: get_jobs
-- The jobs among :ids, in no order. Index: the primary key.
select {job_columns} from {prefix}.oban_jobs as job where job.id = any(cast(:ids as bigint[]))

-- name: list_jobs
-- Newest first, from below :before_id; each filter that is null lets everything pass.
select {job_columns} from {prefix}.oban_jobs as job
where (cast(:before_id as bigint) is null or job.id < cast(:before_id as bigint))
  and (cast(:states as text[]) is null or cast(job.state as text) = any(cast(:states as text[])))
  and (cast(:queue as text) is null or job.queue = cast(:queue as text))
  and (cast(:worker as text) is null or job.worker = cast(:worker as text))
  and (cast(:tags as text[]) is null or job.tags @> cast(:tags as text[]))
  and (cast(:args as text) is null or job.args @> cast(cast(:args as text) as jsonb))
  and (cast(:meta as text) is null or job.meta @> cast(cast(:meta as text) as jsonb))
  and (cast(:priority as int) is null or job.priority = cast(:priority as int))
order by job.id desc
limit cast(:limit as int)

-- name: count_jobs
-- How many jobs each queue has in each state. Reads the whole table: for people and their reports,
-- never on a node's way.
select queue, cast(state as text) as state, count(*) as job_count
from {prefix}.oban_jobs
group by queue, state
order by queue, state

-- name: plan_by_indexes
-- For the statements of this transaction: the whole table is not read where an index will do. Of one that
-- was never analyzed the planner does not know how little stands in the index of what runs.
select set_config('enable_seqscan', 'off', true) as enable_seqscan

-- name: backlog
-- How many jobs of each queue are in each state that is not an end, by the indexes that hold those
-- alone: it takes as long with a long history as without one. Indexes: oban_jobs_free_index,
-- oban_jobs_lane_index, oban_jobs_due_index, oban_jobs_running_index, oban_jobs_suspended_index.
select queue, state, cast(sum(job_count) as bigint) as job_count
from (
  select queue, 'available' as state, count(*) as job_count
  from {prefix}.oban_jobs
  where state = 'available' and attempt < max_attempts and lane is null
  group by queue
  union all
  select queue, 'available', count(*)
  from {prefix}.oban_jobs
  where state = 'available' and attempt < max_attempts and lane is not null
  group by queue
  union all
  select queue, cast(state as text), count(*)
  from {prefix}.oban_jobs
  where state in ('scheduled', 'retryable')
  group by queue, state
  union all
  select queue, 'executing', count(*)
  from {prefix}.oban_jobs
  where (state = 'executing' or stopping_at is not null) and state = 'executing'
  group by queue
  union all
  select queue, 'suspended', count(*)
  from {prefix}.oban_jobs
  where state = 'suspended'
  group by queue
) as counted
group by queue, state
order by queue, state

-- name: queue_lags
-- How many seconds the oldest available job of each of :queues has waited. Goes through the priorities,
-- since the index has the oldest of each; of a lane it asks the first. Indexes: oban_jobs_free_index,
-- oban_jobs_lane_index.
with oldest as (
  select queue.queue, first.scheduled_at
  from unnest(cast(:queues as text[])) as queue
  cross join generate_series(0, 9) as priority
  cross join lateral (
    select job.scheduled_at from {prefix}.oban_jobs as job
    where job.state = 'available' and job.queue = queue.queue
      and job.priority = priority.priority and job.attempt < job.max_attempts
      and job.lane is null
    order by job.scheduled_at, job.id
    limit 1
  ) as first
  union all
  select queue.queue, first.scheduled_at
  from unnest(cast(:queues as text[])) as queue
  cross join unnest({prefix}.oban_waiting_lanes(queue.queue, '', 1000)) as lane
  cross join lateral (
    select job.scheduled_at from {prefix}.oban_jobs as job
    where job.state = 'available' and job.queue = queue.queue and job.attempt < job.max_attempts
      and job.lane = lane.lane
    order by job.priority, job.scheduled_at, job.id
    limit 1
  ) as first
)
select
  queue,
  date_part('epoch', timezone('UTC', statement_timestamp())) - date_part('epoch', min(scheduled_at))
    as lag
from oldest
group by queue

-- name: server_facts
-- What a start needs to know before it can trust anything else.
select
  cast(current_setting('server_version_num') as int) as server_version,
  current_setting('server_version') as server_version_text,
  current_database() as database_name,
  to_regclass(:jobs_table) is not null as jobs_exist,
  to_regclass(:migrations_table) is not null as migrations_exist,
  pg_is_in_recovery() as is_replica

-- name: schema_version
-- The last migration that was applied, zero where there was none.
select coalesce(max(version), 0) as version from {prefix}.oban_migrations
