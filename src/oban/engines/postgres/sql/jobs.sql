-- name: insert_jobs
-- Inserts every job of the JSON list :jobs, in which a field that has its default may be missing.
-- Returns the ids in the order of the list, and the moment that all were inserted at. The ids are drawn
-- here, in that order, because inserted rows come back in none. Notifies once per queue that got an
-- available job, and once with the soonest moment among jobs due within :due_within seconds, so that
-- stagers wake in time.
with moment as materialized (
  select timezone('UTC', statement_timestamp()) as inserted_at
), input as materialized (
  select
    nextval((select cast(pg_get_serial_sequence(:jobs_table, 'id') as regclass))) as id,
    ordered.*
  from (
    select
      job.queue, job.worker, job.args, job.meta, job.tags, job.priority, job.max_attempts,
      coalesce(timezone('UTC', to_timestamp(job.scheduled_at)), moment.inserted_at) as scheduled_at,
      job.suspended, moment.inserted_at
    from rows from (
      json_to_recordset(cast(:jobs as json)) as (
        queue text, worker text, args jsonb, meta jsonb, tags text[], priority int,
        max_attempts int, scheduled_at float8, suspended boolean
      )
    ) with ordinality as job(
      queue, worker, args, meta, tags, priority, max_attempts, scheduled_at, suspended, position
    )
    cross join moment
    order by job.position
  ) as ordered
), inserted as (
  insert into {prefix}.oban_jobs (
    id, state, queue, worker, args, meta, tags, priority, max_attempts, inserted_at, scheduled_at
  )
  overriding system value
  select
    id,
    cast(case
      when suspended then 'suspended'
      when scheduled_at > inserted_at then 'scheduled'
      else 'available'
    end as {prefix}.oban_job_state),
    coalesce(queue, 'default'), worker, coalesce(args, '{}'), coalesce(meta, '{}'),
    coalesce(tags, '{}'), coalesce(priority, 0), coalesce(max_attempts, 20), inserted_at,
    scheduled_at
  from input
  returning id, state, queue, scheduled_at
), notified as (
  select pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text))
  from (select distinct queue from inserted where state = 'available') as queues
  where cast(:notify as boolean)
  union all
  select pg_notify(:due_channel, cast(json_build_object('at', extract(epoch from soonest)) as text))
  from (select min(scheduled_at) as soonest from inserted where state = 'scheduled') as due
  where cast(:notify as boolean)
    and soonest <= timezone('UTC', statement_timestamp())
      + cast(:due_within as float8) * interval '1 second'
)
select
  array(select id from inserted order by id) as ids,
  (select date_part('epoch', inserted_at) from moment) as inserted_at,
  (select count(*) from notified) as notified_count

-- name: insert_job
-- Inserts one job, as `insert_jobs` does with many: it has less to read, so that a caller who waits
-- for each of his jobs waits less. Returns its id and the moment that it was inserted at.
with inserted as (
  insert into {prefix}.oban_jobs (
    state, queue, worker, args, meta, tags, priority, max_attempts, inserted_at, scheduled_at
  )
  values (
    cast(case
      when cast(:suspended as boolean) then 'suspended'
      when to_timestamp(cast(:scheduled_at as float8)) > statement_timestamp() then 'scheduled'
      else 'available'
    end as {prefix}.oban_job_state),
    cast(:queue as text), cast(:worker as text),
    cast(cast(:args as text) as jsonb), cast(cast(:meta as text) as jsonb),
    cast(:tags as text[]), cast(:priority as int), cast(:max_attempts as int),
    timezone('UTC', statement_timestamp()),
    timezone('UTC', coalesce(to_timestamp(cast(:scheduled_at as float8)), statement_timestamp()))
  )
  returning id, state, queue, inserted_at, scheduled_at
)
select
  id, date_part('epoch', inserted_at) as inserted_at,
  case
    when not cast(:notify as boolean) then null
    when state = 'available'
    then pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text))
    when state = 'scheduled'
      and scheduled_at <= inserted_at + cast(:due_within as float8) * interval '1 second'
    then pg_notify(
      :due_channel, cast(json_build_object('at', extract(epoch from scheduled_at)) as text)
    )
  end as notified
from inserted

-- name: ring
-- Tells the nodes that there are jobs in :queues. It writes nothing, so its commit waits for no disk.
select pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text)) as told
from unnest(cast(:queues as text[])) as queue

-- name: cancel_jobs
-- Cancels the unfinished jobs among :ids at once. For a running attempt of one of our producers
-- stopping_at is set: the job stays busy until its code has ended. Every node is told to look at
-- what it runs. Rows are locked in id order; returns the ids that changed.
with locked as materialized (
  select id, state, attempted_by[2] as owner from {prefix}.oban_jobs
  where id = any(cast(:ids as bigint[])) and cast(state as text) = any(cast(:states as text[]))
  order by id
  for update
), cancelled as (
  update {prefix}.oban_jobs as job
  set
    state = 'cancelled',
    cancelled_at = timezone('UTC', statement_timestamp()),
    stopping_at = case
      when locked.state = 'executing'
        and locked.owner in (select cast(uuid as text) from {prefix}.oban_owners)
      then timezone('UTC', statement_timestamp())
    end
  from locked
  where job.id = locked.id
  returning job.id, locked.state = 'executing' as was_running
), notified as (
  select pg_notify(
    :signal_channel, cast(json_build_object('action', 'pkill', 'job_id', id) as text)
  )
  from cancelled
  where was_running
)
select id, (select count(*) from notified) as notified_count from cancelled

-- name: retry_jobs
-- Makes the jobs among :ids that rest or wait available now, with at least one attempt left. A job
-- whose code runs, or is still being stopped, is left alone. Crashes are counted anew. Returns the ids
-- that changed.
with locked as materialized (
  select id from {prefix}.oban_jobs
  where id = any(cast(:ids as bigint[])) and cast(state as text) = any(cast(:states as text[]))
    and stopping_at is null
  order by id
  for update
), retried as (
  update {prefix}.oban_jobs as job
  set
    state = 'available',
    max_attempts = greatest(job.max_attempts, job.attempt + 1),
    meta = case
      when jsonb_typeof(job.meta) = 'object'
      then job.meta - cast('crashes' as text) - cast('postponed' as text)
      else job.meta
    end,
    scheduled_at = timezone('UTC', statement_timestamp()),
    completed_at = null,
    cancelled_at = null,
    discarded_at = null
  from locked
  where job.id = locked.id
  returning job.id, job.queue
), notified as (
  select pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text))
  from (select distinct queue from retried) as queues
)
select id, (select count(*) from notified) as notified_count from retried

-- name: delete_jobs
-- Deletes the jobs among :ids whose code is not running. Returns the ids that are gone.
with locked as materialized (
  select id from {prefix}.oban_jobs
  where id = any(cast(:ids as bigint[])) and state <> 'executing' and stopping_at is null
  order by id
  for update
)
delete from {prefix}.oban_jobs as job using locked where job.id = locked.id returning job.id

-- name: lock_jobs
-- Reads the jobs among :ids and holds them, in id order, until the transaction ends.
select {job_columns} from {prefix}.oban_jobs as job
where job.id = any(cast(:ids as bigint[]))
order by job.id
for update

-- name: update_jobs
-- Writes what the JSON list :jobs changes in jobs that this transaction has locked; a field that is
-- left out stays as it is, to the last digit that Python might not have read. A new time moves
-- available and scheduled jobs to what it means. Notifies as an insert does.
with input as materialized (
  select * from json_to_recordset(cast(:jobs as json)) as input(
    id bigint, queue text, worker text, args jsonb, meta jsonb, tags text[], priority int,
    max_attempts int, scheduled_at float8
  )
), updated as (
  update {prefix}.oban_jobs as job
  set
    queue = coalesce(input.queue, job.queue),
    worker = coalesce(input.worker, job.worker),
    args = coalesce(input.args, job.args),
    meta = coalesce(input.meta, job.meta),
    tags = coalesce(input.tags, job.tags),
    priority = coalesce(input.priority, job.priority),
    max_attempts = coalesce(input.max_attempts, job.max_attempts),
    scheduled_at = coalesce(timezone('UTC', to_timestamp(input.scheduled_at)), job.scheduled_at),
    state = case
      when input.scheduled_at is null or job.state not in ('available', 'scheduled') then job.state
      when to_timestamp(input.scheduled_at) > statement_timestamp() then 'scheduled'
      else 'available'
    end
  from input
  where job.id = input.id
  returning job.*
), notified as (
  select pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text))
  from (select distinct queue from updated where state = 'available') as queues
  union all
  select pg_notify(:due_channel, cast(json_build_object('at', extract(epoch from soonest)) as text))
  from (
    select min(scheduled_at) as soonest from updated where state in ('scheduled', 'retryable')
  ) as due
  where soonest <= timezone('UTC', statement_timestamp())
    + cast(:due_within as float8) * interval '1 second'
)
select {job_columns}, (select count(*) from notified) as notified_count from updated as job
