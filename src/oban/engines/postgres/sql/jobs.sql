-- part: notifying
-- Notifies once per queue in which a job of `inserted` is available, and once with the soonest moment
-- among jobs due within :due_within seconds, so that stagers wake in time.
notified as (
  select pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text))
  from (select distinct queue from inserted where state = 'available') as queues
  where cast(:notify as boolean)
  union all
  select pg_notify(:due_channel, cast(json_build_object('at', extract(epoch from soonest)) as text))
  from (
    select min(scheduled_at) as soonest from inserted where state in ('scheduled', 'retryable')
  ) as due
  where cast(:notify as boolean)
    and soonest <= timezone('UTC', statement_timestamp())
      + cast(:due_within as float8) * interval '1 second'
)

-- part: lane
-- The lane of each job of `input`: none for nearly all, which have no limits to pass. Where no queue at
-- all is divided that is quickly said.
case
      when meta -> 'limits' is null and not exists (
        select from {prefix}.oban_partitions where paths is not null
      )
      then null
      else {prefix}.oban_lane_of(coalesce(queue, 'default'), worker, coalesce(args, '{}'), meta)
    end

-- name: insert_jobs
-- Inserts every job of the JSON list :jobs, in which a field that has its default may be missing.
-- Returns the ids in the order of the list, and the moment that all were inserted at. The ids are drawn
-- here, in that order, because inserted rows come back in none.
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
    id, state, queue, worker, args, meta, tags, priority, max_attempts, inserted_at, scheduled_at,
    lane
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
    scheduled_at, {lane}
  from input
  returning id, state, queue, scheduled_at
), {notifying}
select
  array(select id from inserted order by id) as ids,
  (select date_part('epoch', inserted_at) from moment) as inserted_at,
  (select count(*) from notified) as notified_count

-- name: insert_job
-- Inserts one job, as `insert_jobs` does with many: it has less to read, so that a caller who waits
-- for each of his jobs waits less. Returns its id and the moment that it was inserted at.
with inserted as (
  insert into {prefix}.oban_jobs (
    state, queue, worker, args, meta, tags, priority, max_attempts, inserted_at, scheduled_at, lane
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
    timezone('UTC', coalesce(to_timestamp(cast(:scheduled_at as float8)), statement_timestamp())),
    {prefix}.oban_lane_of(
      cast(:queue as text), cast(:worker as text), cast(cast(:args as text) as jsonb),
      cast(cast(:meta as text) as jsonb)
    )
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

-- name: insert_unique_jobs
-- Inserts the jobs of the JSON list :jobs that have no like. As `insert_jobs`, but an id is null where
-- the job was not inserted. Of several of one key in the list one has `takes`, and those with `shares`
-- are inserted if that one is; the others look for their like next. What makes a job unique beside its
-- key is in the JSON list :kinds. The keys are taken in their order; one that another transaction has
-- just taken is waited for, :patience at most unless lock_timeout says something. Index: the primary
-- key of oban_unique.
with moment as materialized (
  select
    timezone('UTC', statement_timestamp()) as inserted_at,
    case
      when cast(:patience as text) is not null and current_setting('lock_timeout') = '0'
      then set_config('lock_timeout', cast(:patience as text), true)
    end as patience
), kind as materialized (
  select * from json_to_recordset(cast(:kinds as json)) as kind(
    kind int, marks jsonb, states int, period float8, by_schedule boolean
  )
), input as materialized (
  select
    nextval((select cast(pg_get_serial_sequence(:jobs_table, 'id') as regclass))) as id,
    ordered.*
  from (
    select
      job.position, job.queue, job.worker, job.args, job.meta, job.tags, job.priority,
      job.max_attempts,
      coalesce(timezone('UTC', to_timestamp(job.scheduled_at)), moment.inserted_at) as scheduled_at,
      job.suspended, job.key, job.takes, job.shares, kind.marks, kind.states, kind.period,
      kind.by_schedule, moment.inserted_at, moment.patience
    from rows from (
      json_to_recordset(cast(:jobs as json)) as (
        queue text, worker text, args jsonb, meta jsonb, tags text[], priority int,
        max_attempts int, scheduled_at float8, suspended boolean, key text, kind int, takes boolean,
        shares boolean
      )
    ) with ordinality as job(
      queue, worker, args, meta, tags, priority, max_attempts, scheduled_at, suspended, key, kind,
      takes, shares, position
    )
    left join kind on kind.kind = job.kind
    cross join moment
    order by job.position
  ) as ordered
), taken as (
  insert into {prefix}.oban_unique as held (key, job_id, states, period, by_schedule)
  select cast(key as uuid), id, states, period, by_schedule from input
  where takes
  order by 1
  on conflict (key) do update set
    job_id = excluded.job_id,
    states = excluded.states,
    period = excluded.period,
    by_schedule = excluded.by_schedule
  where not {prefix}.oban_unique_is_held(
    held.key, held.job_id, excluded.states, excluded.period, excluded.by_schedule
  )
  returning key, job_id
), inserted as (
  insert into {prefix}.oban_jobs (
    id, state, queue, worker, args, meta, tags, priority, max_attempts, inserted_at, scheduled_at,
    lane
  )
  overriding system value
  select
    id,
    cast(case
      when suspended then 'suspended'
      when scheduled_at > inserted_at then 'scheduled'
      else 'available'
    end as {prefix}.oban_job_state),
    coalesce(queue, 'default'), worker, coalesce(args, '{}'),
    case
      when key is null then coalesce(meta, '{}')
      else coalesce(meta, '{}') || marks || jsonb_build_object('uniq_key', key)
    end,
    coalesce(tags, '{}'), coalesce(priority, 0), coalesce(max_attempts, 20), inserted_at,
    scheduled_at, {lane}
  from input
  where key is null or id in (select job_id from taken)
    or (shares and cast(key as uuid) in (select key from taken))
  returning id, state, queue, scheduled_at
), {notifying}
select
  array(
    select inserted.id from input left join inserted on inserted.id = input.id
    order by input.position
  ) as ids,
  (select date_part('epoch', inserted_at) from moment) as inserted_at,
  (select count(*) from notified) as notified_count

-- name: find_alike
-- Finds the jobs that hold the keys in the JSON list :jobs. Returns for each where in the list it
-- stands, and the job, unless it is gone or counts no more: then its like can be inserted now.
select input.position, {job_columns}
from rows from (
  json_to_recordset(cast(:jobs as json)) as (
    key uuid, states int, period float8, by_schedule boolean
  )
) with ordinality as input(key, states, period, by_schedule, position)
join {prefix}.oban_unique as held on held.key = input.key
join {prefix}.oban_jobs as job on job.id = held.job_id
where {prefix}.oban_unique_is_held(
    held.key, job.id, input.states, input.period, input.by_schedule
  )

-- name: replace_alike
-- The same, and changes in each job what its like, the last of several, replaces in the state it is
-- in. A job that moves meanwhile is as good as gone. Rows are locked in id order.
with input as materialized (
  select
    input.position, input.key, input.states, input.period, input.by_schedule, input.replaced,
    input.queue, input.args, input.meta, input.tags, input.priority, input.max_attempts,
    input.scheduled_at
  from rows from (
    json_to_recordset(cast(:jobs as json)) as (
      key uuid, states int, period float8, by_schedule boolean, replaced json, queue text,
      args jsonb, meta jsonb, tags text[], priority int, max_attempts int, scheduled_at float8
    )
  ) with ordinality as input(
    key, states, period, by_schedule, replaced, queue, args, meta, tags, priority, max_attempts,
    scheduled_at, position
  )
), held as materialized (
  select
    input.position, job.id, job.state,
    array(select json_array_elements_text(input.replaced -> cast(job.state as text))) as names
  from input
  join {prefix}.oban_unique as held on held.key = input.key
  join {prefix}.oban_jobs as job on job.id = held.job_id
  where {prefix}.oban_unique_is_held(
    held.key, job.id, input.states, input.period, input.by_schedule
  )
), last as materialized (
  select distinct on (id) id, state, position, names from held order by id, position desc
), locked as materialized (
  select job.id from {prefix}.oban_jobs as job
  where job.id = any(array(select id from last where names <> '{}'))
  order by job.id
  for update
), changed as (
  update {prefix}.oban_jobs as job
  set
    args = case when 'args' = any(last.names) then coalesce(input.args, '{}') else job.args end,
    meta = case when 'meta' = any(last.names) then input.meta else job.meta end,
    lane = case
      when job.state = 'executing' or job.stopping_at is not null then job.lane
      else {prefix}.oban_lane_of(
        case when 'queue' = any(last.names) then input.queue else job.queue end, job.worker,
        case when 'args' = any(last.names) then coalesce(input.args, '{}') else job.args end,
        case when 'meta' = any(last.names) then input.meta else job.meta end
      )
    end,
    tags = case when 'tags' = any(last.names) then coalesce(input.tags, '{}') else job.tags end,
    queue = case when 'queue' = any(last.names) then input.queue else job.queue end,
    priority = case
      when 'priority' = any(last.names) then coalesce(input.priority, 0)
      else job.priority
    end,
    max_attempts = case
      when 'max_attempts' = any(last.names)
      then greatest(coalesce(input.max_attempts, 20), job.attempt)
      else job.max_attempts
    end,
    scheduled_at = case
      when 'schedule' = any(last.names)
      then timezone('UTC', coalesce(to_timestamp(input.scheduled_at), statement_timestamp()))
      else job.scheduled_at
    end,
    state = case
      when 'schedule' <> all(last.names) or job.state not in ('available', 'scheduled')
      then job.state
      when to_timestamp(input.scheduled_at) > statement_timestamp() then 'scheduled'
      else 'available'
    end
  from last
  join input on input.position = last.position
  where job.id = last.id and job.id in (select id from locked) and job.state = last.state
  returning job.*
), inserted as (
  select id, state, queue, scheduled_at from changed
), {notifying}
select held.position, {job_columns}, (select count(*) from notified) as notified_count
from held
join changed as job on job.id = held.id
union all
select held.position, {job_columns}, null
from held
join last on last.id = held.id and last.names = '{}'
join {prefix}.oban_jobs as job on job.id = held.id

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
-- whose code runs, or is still being stopped, is left alone; so is one whose like has taken its unique
-- key meanwhile. Crashes are counted anew. Returns the ids of those that could be retried, and whether
-- each was.
with locked as materialized (
  select
    id, state, meta ->> 'uniq_key' as key, {prefix}.oban_unique_states(meta) as states
  from {prefix}.oban_jobs
  where id = any(cast(:ids as bigint[])) and cast(state as text) = any(cast(:states as text[]))
    and stopping_at is null
  order by id
  for update
), entering as materialized (
  select distinct on (key) cast(key as uuid) as key, id, states from locked
  where states & {prefix}.oban_unique_bit('available') <> 0
  order by key, id desc
), taken as (
  insert into {prefix}.oban_unique as held (key, job_id, states, by_schedule)
  select key, id, states, false from entering order by key
  on conflict (key) do update set job_id = excluded.job_id
  where held.job_id = excluded.job_id
    or not {prefix}.oban_unique_is_held(
      held.key, held.job_id, excluded.states, held.period, held.by_schedule
    )
  returning job_id
), admitted as materialized (
  select id from locked
  where states & {prefix}.oban_unique_bit('available') = 0 or id in (select job_id from taken)
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
  from admitted
  where job.id = admitted.id
  returning job.id, job.queue
), notified as (
  select pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text))
  from (select distinct queue from retried) as queues
)
select
  id, id in (select id from retried) as retried, (select count(*) from notified) as notified_count
from locked

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
-- available and scheduled jobs to what it means; a job that runs stays in the lane that it was claimed
-- in. Notifies as an insert does.
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
    meta = case
      when input.meta is null then job.meta
      when job.meta -> 'uniq_key' is null then input.meta
      else input.meta || jsonb_build_object(
        'uniq', job.meta -> 'uniq', 'uniq_key', job.meta -> 'uniq_key',
        'uniq_bmp', job.meta -> 'uniq_bmp'
      )
    end,
    lane = case
      when job.state = 'executing' or job.stopping_at is not null then job.lane
      else {prefix}.oban_lane_of(
        coalesce(input.queue, job.queue), coalesce(input.worker, job.worker),
        coalesce(input.args, job.args), coalesce(input.meta, job.meta)
      )
    end,
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
