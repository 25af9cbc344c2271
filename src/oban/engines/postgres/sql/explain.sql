-- name: explain_job
-- The job :id, and what only the database can tell of it: the time, since when it is being stopped,
-- its weight, whether it is in the lane it belongs in, and who holds the unique key that it has or
-- had. Anything may stand in meta. Index: the primary keys.
select
  {job_columns},
  date_part('epoch', statement_timestamp()) as at,
  date_part('epoch', job.stopping_at) as stopping_at,
  cast(least({prefix}.oban_weight(job.meta), 1000000000) as int) as weight,
  job.lane, cast(job.scheduled_at as text) as stands_at,
  partition.queue is not null as is_partitioned,
  held.job_id as holder_id, cast(holder.state as text) as holder_state
from {prefix}.oban_jobs as job
left join {prefix}.oban_partitions as partition
  on partition.queue = job.queue and partition.paths is not null
cross join lateral (
  select coalesce(job.meta ->> 'uniq_key', job.meta ->> 'uniq_lost') as text
) as key
left join {prefix}.oban_unique as held on held.key = case
  when length(key.text) = 32 and translate(key.text, '0123456789abcdef', '') = ''
  then cast(key.text as uuid)
end
left join {prefix}.oban_jobs as holder on holder.id = held.job_id
where job.id = cast(:id as bigint)

-- name: explain_nodes
-- Up to :most producers of :queue, and :uuid, of whatever package; and for each other queue the one of
-- ours that gave the last sign of life. With how many jobs name them as running, counted to 10,000,
-- and which of these was claimed first. Index: oban_jobs_running_index.
with known as materialized (
  select
    owner.uuid, owner.name, owner.node, owner.queue, true as is_ours, owner.max_age, producer.meta,
    coalesce(timezone('UTC', producer.started_at), owner.inserted_at) as started_at,
    producer.updated_at
  from {prefix}.oban_owners as owner
  left join {prefix}.oban_producers as producer using (uuid)
  union all
  select
    producer.uuid, producer.name, producer.node, producer.queue, false, cast(:foreign_age as float8),
    producer.meta, timezone('UTC', producer.started_at), producer.updated_at
  from {prefix}.oban_producers as producer
  where not exists (select from {prefix}.oban_owners as owner where owner.uuid = producer.uuid)
), concerned as materialized (
  select uuid, true as is_concerned from known
  where cast(uuid as text) = cast(:uuid as text)
  union all
  (
    select uuid, true from known
    where queue = cast(:queue as text) and cast(uuid as text) is distinct from cast(:uuid as text)
    order by updated_at desc nulls last
    limit cast(:most as int)
  )
  union all
  (
    select distinct on (queue) uuid, false from known
    where is_ours and queue <> cast(:queue as text)
      and cast(uuid as text) is distinct from cast(:uuid as text)
    order by queue, updated_at desc nulls last
    limit cast(:most as int)
  )
)
select
  cast(known.uuid as text) as uuid, known.name, known.node, known.queue,
  date_part('epoch', known.started_at) as started_at,
  running.job_count,
  case when concerned.is_concerned and pg_column_size(known.meta) < 1000000
    then cast(known.meta as text)
  end as meta,
  date_part('epoch', timezone('UTC', statement_timestamp()))
    - date_part('epoch', known.updated_at) as beat_age,
  known.max_age, known.is_ours, concerned.is_concerned,
  running.longest_id,
  date_part('epoch', timezone('UTC', statement_timestamp()))
    - date_part('epoch', running.longest_since) as longest_for
from concerned
join known using (uuid)
cross join lateral (
  select
    count(*) as job_count,
    min(attempted_at) as longest_since,
    (array_agg(id order by attempted_at, id))[1] as longest_id
  from (
    select job.id, job.attempted_at from {prefix}.oban_jobs as job
    where concerned.is_concerned and job.attempted_by[2] = cast(known.uuid as text)
      and (job.state = 'executing' or job.stopping_at is not null)
    limit 10000
  ) as each
) as running

-- name: explain_intents
-- What was commanded of queues and is not over, by the name of the Oban, the
-- newest first. Rows that are none of ours are left out, as in `list_intents`.
select
  name,
  cast(json_build_array(
    queue, node, aspect, value, version, extract(epoch from set_at),
    extract(epoch from expires_at - statement_timestamp())
  ) as text) as intent
from {prefix}.oban_queue_intents
where queue in (cast(:queue as text), cast(:every as text))
  and (expires_at is null or expires_at > statement_timestamp())
  and isfinite(set_at) and pg_column_size(value) < 64
order by version desc
limit cast(:most as int)

-- name: explain_limits
-- The limits that a job of :queue in :lane has to pass, and how much of each is used: the one called
-- :own, of which :slots, :allowed and :period are what a node holds to, and the shared ones that stand
-- in the lane. Counted as `oban_claim_limited` does, of what passes shared limits up to :most; in that
-- order it is read by its index. Indexes: oban_jobs_running_index,
-- oban_jobs_running_lane_index.
with gate as materialized (
  select cast(:own as text) as name, true as is_own where cast(:own as text) is not null
  union all
  select 'limit ' || name, false
  from unnest({prefix}.oban_lane_limits(cast(:lane as text))) as name
), bound as materialized (
  select
    gate.name, limiter.spent, limiter.spent_period as before, limiter.resting_until,
    gate.is_own or coalesce(limiter.scaled, limiter.options) is not null as is_known,
    case
      when gate.is_own then cast(:slots as int)
      else cast(coalesce(limiter.scaled, limiter.options) ->> 'global_limit' as int)
    end as slots,
    case
      when gate.is_own then cast(:allowed as bigint)
      else cast(coalesce(limiter.scaled, limiter.options) #>> '{rate_limit,allowed}' as bigint)
    end as allowed,
    case
      when gate.is_own then cast(:period as float8)
      else cast(coalesce(limiter.scaled, limiter.options) #>> '{rate_limit,period}' as float8)
    end as period
  from gate
  left join {prefix}.oban_limiters as limiter on limiter.name = gate.name
), running as materialized (
  select name, count(*) as job_count
  from (
    select cast(:own as text) as name
    from {prefix}.oban_jobs as job
    where cast(:own as text) is not null
      and job.attempted_by[2] = any(array(
        select cast(owner.uuid as text) from {prefix}.oban_owners as owner
        where owner.queue = cast(:queue as text)
      ))
      and (job.state = 'executing' or job.stopping_at is not null)
      and (
        not cast(:is_partitioned as boolean)
        or left(job.lane, 32) = left(cast(:lane as text), 32)
      )
    union all
    select 'limit ' || unnest({prefix}.oban_lane_limits(lane))
    from (
      select job.lane from {prefix}.oban_jobs as job
      where cast(:lane as text) is not null and job.lane is not null
        and (job.state = 'executing' or job.stopping_at is not null)
      order by job.lane
      limit cast(:most as int)
    ) as laned
  ) as each
  group by name
)
select
  bound.name, bound.is_known, bound.slots, coalesce(running.job_count, 0) as running,
  bound.allowed, bound.period, cast(coalesce(used.weight, 0) as bigint) as started,
  (used.since + cast(:spans as int) + now.slack + 1) * cast(bound.period as float8)
    / cast(:spans as int) - now.at as reopens_in,
  greatest(0, coalesce(
    cast(extract(epoch from bound.resting_until - clock_timestamp()) as float8), 0
  )) as resting
from bound
cross join lateral (
  select
    at, cast(floor(at * cast(:spans as int) / bound.period) as bigint) as span,
    cast(greatest(2, ceil(0.04 * cast(:spans as int) / bound.period)) as bigint) as slack
  from (select cast(extract(epoch from clock_timestamp()) as float8) as at) as clock
) as now
left join running on running.name = bound.name
left join lateral (
  select sum(each.weight) as weight, min(each.span) as since
  from {prefix}.oban_spent(bound.spent, bound.before, bound.period, now.span) as each
  where bound.allowed is not null
    and each.span between now.span - cast(:spans as int) - now.slack and now.span + 1
) as used on true
order by bound.name

-- name: jobs_ahead
-- How many available jobs of :queue and :lane stand before :priority, :scheduled_at and :id, counted to
-- :most. The place is given, and not looked up here: so the planner knows it, and reads the index in
-- its order up to the bound. Indexes: oban_jobs_free_index, oban_jobs_lane_index.
select count(*) as job_count
from (
  (
    select id from {prefix}.oban_jobs
    where cast(:lane as text) is null and lane is null
      and state = 'available' and attempt < max_attempts and queue = cast(:queue as text)
      and (priority, scheduled_at, id) < (
        cast(:priority as int), cast(cast(:scheduled_at as text) as timestamp), cast(:id as bigint)
      )
    order by priority, scheduled_at, id
    limit cast(:most as int)
  )
  union all
  (
    select id from {prefix}.oban_jobs
    where lane = cast(:lane as text) and lane is not null
      and state = 'available' and attempt < max_attempts and queue = cast(:queue as text)
      and (priority, scheduled_at, id) < (
        cast(:priority as int), cast(cast(:scheduled_at as text) as timestamp), cast(:id as bigint)
      )
    order by priority, scheduled_at, id
    limit cast(:most as int)
  )
) as before
