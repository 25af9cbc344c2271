-- name: open_limits
-- Stores what this node says of the queue's partitions, as :paths, and of shared limits, the JSON
-- object :limits. With :overrule it replaces what others have said; without it only what is missing.
with partition as (
  insert into {prefix}.oban_partitions as known (queue, paths, mark)
  select cast(:queue as text), cast(cast(:paths as text) as jsonb), cast(:mark as text)
  where cast(:paths as text) is not null
  on conflict (queue) do update set paths = excluded.paths, mark = excluded.mark
  where cast(:overrule as boolean) and known.mark is distinct from excluded.mark
), unpartitioned as (
  update {prefix}.oban_partitions
  set paths = null, mark = null
  where queue = cast(:queue as text) and paths is not null and cast(:paths as text) is null
    and cast(:overrule as boolean)
), shared as (
  insert into {prefix}.oban_limiters as limiter (name, options)
  select 'limit ' || key, value from jsonb_each(cast(cast(:limits as text) as jsonb))
  order by key
  on conflict (name) do update set options = excluded.options
  where limiter.options is null
    or (cast(:overrule as boolean) and limiter.options <> excluded.options)
)
select 1 as done

-- name: place_jobs
-- Gives up to :limit available jobs of :queue the lane they belong in: those that others have
-- inserted, or that were there before its partitions. Returns how many.
with partition as materialized (
  select paths, mark from {prefix}.oban_partitions
  where queue = cast(:queue as text) and paths is not null
), unplaced as materialized (
  select ctid as place from {prefix}.oban_jobs
  where state = 'available' and attempt < max_attempts and queue = cast(:queue as text)
    and lane is null and exists (select from partition)
  order by priority, scheduled_at, id
  limit cast(:limit as int)
  for update skip locked
), before as materialized (
  select ctid as place from {prefix}.oban_jobs
  where state = 'available' and attempt < max_attempts and queue = cast(:queue as text)
    and lane < coalesce((select mark from partition), ' ')
  limit cast(:limit as int)
  for update skip locked
), behind as materialized (
  select ctid as place from {prefix}.oban_jobs
  where state = 'available' and attempt < max_attempts and queue = cast(:queue as text)
    and lane >= coalesce((select mark from partition), ' ') || '~'
  limit cast(:limit as int)
  for update skip locked
), placed as (
  update {prefix}.oban_jobs as job
  set lane = {prefix}.oban_lane(
    (select paths from partition), (select mark from partition), job.worker, job.args, job.meta
  )
  where job.ctid = any(array(
    select place from unplaced union select place from before union select place from behind
  ))
  returning job.id
)
select count(*) as placed_count from placed

-- name: forget_limiters
-- Deletes what is kept of partitions that have not run for long enough to mean nothing.
with locked as materialized (
  select name from {prefix}.oban_limiters
  where starts_with(name, 'lane ') and expires_at < statement_timestamp()
  for update skip locked
)
delete from {prefix}.oban_limiters as limiter using locked where limiter.name = locked.name
returning limiter.name

-- name: scale_limit
-- Lets the JSON object :given hold for the limit that queues share, beside what held before, and tells
-- those who wait. Returns whether there is one of that name.
with scaled as (
  update {prefix}.oban_limiters as limiter
  set
    scaled = coalesce(limiter.scaled, limiter.options) || cast(cast(:given as text) as jsonb),
    awaited_by = '{}'
  from (
    select name, awaited_by from {prefix}.oban_limiters
    where name = cast(:limiter as text) for update
  ) as before
  where limiter.name = before.name and limiter.options is not null
  returning before.awaited_by
)
select
  (select count(*) from scaled) as scaled_count,
  (
    select count(*) from (
      select pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text))
      from (select distinct unnest(awaited_by) as queue from scaled) as waiting
    ) as told
  ) as told_count

-- name: reset_limit
-- Lets what the nodes say of the limit hold again.
update {prefix}.oban_limiters as limiter
set scaled = null
where name = cast(:limiter as text) and scaled is not null
returning name

-- name: shared_limits
-- The limits that queues share, what holds for each, and how much of it is used.
-- Index: oban_jobs_running_lane_index.
with limiter as materialized (
  select
    substr(name, 7) as name, coalesce(scaled, options) as options, scaled is not null as is_scaled,
    resting_until, spent, spent_period
  from {prefix}.oban_limiters
  where starts_with(name, 'limit ') and options is not null
), running as materialized (
  select name, count(*) as job_count
  from {prefix}.oban_jobs as job
  cross join unnest({prefix}.oban_lane_limits(job.lane)) as name
  where job.lane is not null and (job.state = 'executing' or job.stopping_at is not null)
  group by name
)
select
  limiter.name, cast(limiter.options as text) as options, limiter.is_scaled,
  coalesce(running.job_count, 0) as running,
  coalesce((
    select cast(sum(each.weight) as bigint)
    from (
      select
        cast(limiter.options #>> '{rate_limit,period}' as float8) as period,
        cast(extract(epoch from clock_timestamp()) as float8) as at
    ) as now
    cross join lateral {prefix}.oban_spent(
      limiter.spent, limiter.spent_period, now.period,
      cast(floor(now.at * cast(:spans as int) / now.period) as bigint)
    ) as each
    where each.span > floor(now.at * cast(:spans as int) / now.period) - cast(:spans as int)
  ), 0) as started,
  greatest(0, coalesce(
    cast(extract(epoch from limiter.resting_until - clock_timestamp()) as float8), 0
  )) as resting
from limiter
left join running on running.name = limiter.name
order by limiter.name
