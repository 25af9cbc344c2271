-- name: register_producer
-- Records that this producer, and its queue, are ours. Committed before its first claim. A heartbeat
-- does the same; this is for who claims without one, and may be silent for :max_age seconds.
with owned_queue as (
  insert into {prefix}.oban_owned_queues (queue) values (cast(:queue as text)) on conflict do nothing
)
insert into {prefix}.oban_owners (uuid, name, node, queue, max_age)
values (
  cast(cast(:uuid as text) as uuid), cast(:name as text), cast(:node as text),
  cast(:queue as text), cast(:max_age as float8)
)
on conflict (uuid) do nothing
returning cast(uuid as text) as uuid

-- name: forget_producers
-- Takes the records of :uuids away, and their heartbeats, unless a job still names one of them as its
-- running attempt. Index: oban_jobs_running_index.
with done as materialized (
  select uuid from unnest(cast(:uuids as text[])) as uuid
  where (
    select true from {prefix}.oban_jobs as job
    where job.attempted_by[2] = uuid and (job.state = 'executing' or job.stopping_at is not null)
    limit 1
  ) is null
), silenced as (
  delete from {prefix}.oban_producers
  where uuid = any(array(select cast(uuid as uuid) from done))
)
delete from {prefix}.oban_owners
where uuid = any(array(select cast(uuid as uuid) from done))
returning cast(uuid as text) as uuid

-- name: beat
-- One process's heartbeat: writes those of its producers in the JSON list :pulses, and their records
-- where those are missing. Returns which of the attempts that they have in hand are no longer theirs
-- to run, which producers have rows executing that they know nothing of (claimed up to the time that
-- they have processed), and who else of ours has a heartbeat or a running attempt. Touches no job and
-- waits for nobody's lock on one.
-- Index: oban_jobs_running_index.
with pulse as materialized (
  select * from json_to_recordset(cast(:pulses as json)) as pulse(
    uuid text, name text, node text, queue text, started_at float8, meta jsonb, in_hand json
  )
), owned_queue as (
  insert into {prefix}.oban_owned_queues (queue)
  select distinct queue from pulse
  on conflict do nothing
), owned as (
  insert into {prefix}.oban_owners (uuid, name, node, queue, max_age)
  select cast(uuid as uuid), name, node, queue, cast(:max_age as float8) from pulse
  on conflict do nothing
), seen as (
  update {prefix}.oban_owners
  set seen_at = statement_timestamp()
  where uuid = any(array(select cast(uuid as uuid) from pulse))
    and seen_at < statement_timestamp() - interval '1 hour'
), heartbeat as (
  insert into {prefix}.oban_producers (uuid, name, node, queue, meta, started_at, updated_at)
  select
    cast(uuid as uuid), name, node, queue, meta,
    timezone('UTC', to_timestamp(started_at)), timezone('UTC', statement_timestamp())
  from pulse
  on conflict (uuid) do update set meta = excluded.meta, updated_at = excluded.updated_at
), in_hand as materialized (
  select pulse.uuid, attempt.id, attempt.attempt
  from pulse
  cross join lateral json_to_recordset(pulse.in_hand) as attempt(id bigint, attempt int)
), executing as materialized (
  select
    job.attempted_by[2] as uuid, job.id, job.attempt,
    extract(epoch from job.attempted_at) as attempted_at
  from {prefix}.oban_jobs as job
  where job.attempted_by[2] = any(array(select uuid from pulse))
    and (job.state = 'executing' or job.stopping_at is not null)
    and case job.state when 'executing' then true else false end
), lost as (
  select uuid, id, attempt from in_hand
  except
  select uuid, id, attempt from executing
), astray as (
  select uuid, id, attempt
  from executing
  join pulse using (uuid)
  where executing.attempted_at <= cast(pulse.meta ->> 'processed_at' as numeric)
  except
  select uuid, id, attempt from in_hand
), other as (
  select
    owner.uuid, owner.name, owner.node, owner.queue, owner.max_age,
    cast(extract(epoch from producer.updated_at) as float8) as beat_at
  from {prefix}.oban_owners as owner
  left join {prefix}.oban_producers as producer using (uuid)
  where owner.uuid <> all(array(select cast(uuid as uuid) from pulse))
    and (
      producer.uuid is not null
      or (
        select true from {prefix}.oban_jobs as job
        where job.attempted_by[2] = cast(owner.uuid as text)
          and (job.state = 'executing' or job.stopping_at is not null)
        limit 1
      )
    )
), elected as (
  insert into {prefix}.oban_leases as lease (name, uuid, node, epoch, elected_at, expires_at)
  select
    cast(:name as text), cast(cast(:candidate as text) as uuid), cast(:node as text), 1,
    statement_timestamp(), statement_timestamp() + cast(:lease as float8) * interval '1 second'
  where cast(:candidate as text) is not null
    and not exists (
      select from {prefix}.oban_leases as held
      where held.name = cast(:name as text) and held.expires_at > statement_timestamp()
        and held.uuid <> cast(cast(:candidate as text) as uuid)
    )
  on conflict (name) do update
  set
    uuid = excluded.uuid,
    node = excluded.node,
    epoch = case
      when lease.uuid = excluded.uuid then lease.epoch
      else lease.epoch + 1
    end,
    elected_at = case
      when lease.uuid = excluded.uuid then lease.elected_at
      else excluded.elected_at
    end,
    expires_at = excluded.expires_at
  where lease.uuid = excluded.uuid or lease.expires_at <= statement_timestamp()
  returning lease.name, lease.uuid, lease.node, lease.epoch, lease.elected_at, lease.expires_at
), mirrored as (
  insert into {prefix}.oban_leaders as leader (name, node, elected_at, expires_at)
  select name, node, timezone('UTC', elected_at), timezone('UTC', expires_at) from elected
  on conflict (name) do update
  set
    node = excluded.node, elected_at = excluded.elected_at, expires_at = excluded.expires_at
  where leader.node = excluded.node
    or leader.expires_at <= timezone('UTC', statement_timestamp())
), held_lease as (
  select uuid, node, epoch, expires_at from elected
  union all
  select uuid, node, epoch, expires_at from {prefix}.oban_leases
  where name = cast(:name as text) and expires_at > statement_timestamp()
    and not exists (select from elected)
)
select
  cast(extract(epoch from statement_timestamp()) as float8) as at,
  (select cast(coalesce(json_agg(json_build_array(uuid, id, attempt)), '[]') as text) from lost)
    as lost,
  array(select distinct uuid from astray) as astray,
  (
    select cast(coalesce(json_agg(
      json_build_array(uuid, name, node, queue, max_age, beat_at)
    ), '[]') as text)
    from other
  ) as others,
  (
    select cast(json_build_array(
      uuid, node, epoch, extract(epoch from expires_at - statement_timestamp())
    ) as text)
    from held_lease
  ) as lease,
  (
    select cast(coalesce(json_agg(json_build_array(
      queue, node, aspect, value, version, extract(epoch from set_at),
      extract(epoch from expires_at - statement_timestamp())
    ) order by version), '[]') as text)
    from {prefix}.oban_queue_intents
    where name = cast(:name as text)
      and (expires_at is null or expires_at > statement_timestamp())
      and isfinite(set_at) and pg_column_size(value) < 64
  ) as intents

-- name: resign
-- Frees the lease of :name if :uuid holds it, together with its mirror, and tells the others. Returns
-- whether it did.
with freed as (
  delete from {prefix}.oban_leases
  where name = cast(:name as text) and uuid = cast(cast(:uuid as text) as uuid)
  returning name
), unmirrored as (
  delete from {prefix}.oban_leaders
  where name in (select name from freed) and node = cast(:node as text)
)
select pg_notify(
  :leader_channel,
  cast(json_build_object(
    'action', 'resign', 'name', name, 'node', cast(:node as text)
  ) as text)
) as notified
from freed

-- name: command_queue
-- Stores what is wanted of :queue on :node, one row for each aspect in the JSON object :aspects, each
-- with a new version, until :until where that is given. Tells our nodes to look, and how many of the
-- list :signals follow, which are for the nodes of the other packages.
with wanted as (
  insert into {prefix}.oban_queue_intents as intent (name, queue, node, aspect, value, expires_at)
  select
    cast(:name as text), cast(:queue as text), cast(:node as text), aspect.key, aspect.value,
    to_timestamp(cast(:until as float8))
  from jsonb_each(cast(cast(:aspects as text) as jsonb)) as aspect
  on conflict (name, queue, node, aspect) do update
  set
    value = excluded.value, version = excluded.version, set_at = statement_timestamp(),
    expires_at = excluded.expires_at, seen_at = statement_timestamp()
  returning intent.version
), notified as (
  select pg_notify(:control_channel, cast(json_build_object(
    'name', cast(:name as text), 'echo_count', cardinality(cast(:signals as text[]))
  ) as text))
  union all
  select pg_notify(:signal_channel, signal) from unnest(cast(:signals as text[])) as signal
)
select max(version) as version, (select count(*) from notified) as notified_count from wanted

-- name: reset_queue
-- Forgets what was commanded of :queue, or of every queue where that is null, on :node or on all, and
-- that a queue which no producer runs was ever ours. Returns how many rows of commands.
with forgotten as (
  delete from {prefix}.oban_queue_intents
  where name = cast(:name as text)
    and (cast(:queue as text) is null or queue = cast(:queue as text))
    and (cast(:node as text) is null or node = cast(:node as text))
  returning queue
), disowned as (
  delete from {prefix}.oban_owned_queues as owned
  where cast(:node as text) is null
    and (cast(:queue as text) is null or owned.queue = cast(:queue as text))
    and not exists (select from {prefix}.oban_owners as owner where owner.queue = owned.queue)
), notified as (
  select pg_notify(
    :control_channel, cast(json_build_object('name', cast(:name as text)) as text)
  )
)
select
  (select count(*) from forgotten) as forgotten_count,
  (select count(*) from notified) as notified_count

-- name: list_intents
-- What was commanded of the queues of :name and is not over, but for rows that are none of ours.
select cast(json_build_array(
  queue, node, aspect, value, version, extract(epoch from set_at),
  extract(epoch from expires_at - statement_timestamp())
) as text) as intent
from {prefix}.oban_queue_intents
where name = cast(:name as text) and (expires_at is null or expires_at > statement_timestamp())
  and isfinite(set_at) and pg_column_size(value) < 64
order by version

-- name: rescue_attempts
-- Rescues up to :limit attempts, of the jobs :ids where that is given, of the producers in the JSON
-- list :silent, each of ours and with the heartbeat that was last seen, if any. That is checked once more here, under a lock on the heartbeat:
-- one that came meanwhile saves its producer. An attempt
--  * being stopped is let go;
--  * that was never started, or whose process was shutting down, goes back uncounted;
--  * that ran is counted and gets an error; it goes back, unless it was the last, or its job has now
--    run in :max_crashes processes when they died: then it is discarded.
-- Rows that somebody else has locked are left for the next time; a heartbeat is deleted with the last
-- of its attempts. Rows are locked in id order. Index: oban_jobs_running_index. The verdicts are one
-- object, looked up by id: the planner does not know how few or many a join would have to find.
with silent as materialized (
  select * from json_to_recordset(cast(:silent as json)) as silent(
    uuid text, beat_at float8, max_age float8
  )
), heartbeat as materialized (
  select silent.uuid, silent.max_age, producer.node, producer.meta
  from silent
  join {prefix}.oban_producers as producer on producer.uuid = cast(silent.uuid as uuid)
  where cast(extract(epoch from producer.updated_at) as float8) = silent.beat_at
  order by producer.uuid
  for update of producer
), dead as materialized (
  select found.uuid, found.max_age, found.meta, owner.node from (
    select uuid, max_age, meta from heartbeat
    union all
    select uuid, max_age, null from silent
    where beat_at is null
      and not exists (
        select from {prefix}.oban_producers as producer where producer.uuid = cast(silent.uuid as uuid)
      )
  ) as found
  join {prefix}.oban_owners as owner on owner.uuid = cast(found.uuid as uuid)
), victim as materialized (
  select
    job.id, job.state = 'executing' as executing, job.attempt, job.max_attempts,
    dead.uuid, dead.node, dead.max_age,
    coalesce(
      dead.meta ->> 'shutdown_started_at' is not null
      or (
        not dead.meta -> 'running' @> to_jsonb(job.id)
        and case jsonb_typeof(dead.meta -> 'processed_at')
          when 'number'
          then extract(epoch from job.attempted_at) <= cast(dead.meta ->> 'processed_at' as numeric)
        end
      ),
      false
    ) as blameless,
    case jsonb_typeof(job.meta -> 'crashes')
      when 'number' then greatest(least(cast(job.meta ->> 'crashes' as numeric), 10000), 0)
      else 0
    end + 1 as crash_count
  from dead
  join {prefix}.oban_jobs as job on job.attempted_by[2] = dead.uuid
  where job.attempted_by[2] = any(array(select uuid from dead))
    and (job.state = 'executing' or job.stopping_at is not null)
    and (cast(:ids as bigint[]) is null or job.id = any(cast(:ids as bigint[])))
  order by job.id
  limit cast(:limit as int)
  for update of job skip locked
), judged as materialized (
  select
    id, uuid, node, max_age, crash_count,
    case
      when not executing then 'stopped'
      when blameless then 'given back'
      when cast(:max_crashes as int) > 0 and crash_count >= cast(:max_crashes as int) then 'suspect'
      when attempt >= max_attempts then 'exhausted'
      else 'rescued'
    end as fate
  from victim
), verdict as materialized (
  select jsonb_object_agg(id, jsonb_build_object(
    'uuid', uuid,
    'fate', fate,
    'crashes', cast(crash_count as int),
    'error', case when fate in ('rescued', 'exhausted', 'suspect') then
      'the process that ran this attempt on node ' || node || ' has died or was cut off, after '
      || round(cast(max_age as numeric), 1) || ' s without a sign of life'
      || case fate
        when 'suspect' then '. It is number ' || crash_count
          || ' of those that died while they ran this job, which is given up as the likely '
          || 'cause. Retrying it begins the count anew'
        when 'exhausted' then '. It was the last attempt'
        else ''
      end
    end
  )) as of
  from judged
), rescued as (
  update {prefix}.oban_jobs as job
  set
    state = case verdict.of -> cast(job.id as text) ->> 'fate'
      when 'stopped' then job.state
      when 'suspect' then 'discarded'
      when 'exhausted' then 'discarded'
      else 'available'
    end,
    attempt = case verdict.of -> cast(job.id as text) ->> 'fate'
      when 'given back' then greatest(job.attempt - 1, 0)
      else job.attempt
    end,
    discarded_at = case
      when verdict.of -> cast(job.id as text) ->> 'fate' in ('suspect', 'exhausted')
      then timezone('UTC', statement_timestamp())
      else job.discarded_at
    end,
    meta = case
      when verdict.of -> cast(job.id as text) ->> 'error' is not null
        and jsonb_typeof(coalesce(job.meta, '{}')) = 'object'
      then coalesce(job.meta, '{}') || jsonb_build_object(
        'crashes', verdict.of -> cast(job.id as text) -> 'crashes'
      )
      else job.meta
    end,
    errors = case
      when verdict.of -> cast(job.id as text) ->> 'error' is not null
      then job.errors || jsonb_build_object(
        'attempt', job.attempt,
        'at', (to_jsonb(timezone('UTC', statement_timestamp())) #>> '{}') || 'Z',
        'error', verdict.of -> cast(job.id as text) -> 'error'
      )
      else job.errors
    end,
    stopping_at = null
  from verdict
  where job.id = any(array(select id from judged))
  returning
    job.id, job.queue, job.state,
    verdict.of -> cast(job.id as text) ->> 'uuid' as uuid,
    verdict.of -> cast(job.id as text) ->> 'fate' as fate
), notified as (
  select pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text))
  from (select distinct queue from rescued where fate in ('rescued', 'given back')) as queues
), buried as (
  delete from {prefix}.oban_producers as producer
  using heartbeat
  where producer.uuid = cast(heartbeat.uuid as uuid)
    and (select count(*) from judged where judged.uuid = heartbeat.uuid) = (
      select count(*) from {prefix}.oban_jobs as job
      where job.attempted_by[2] = heartbeat.uuid
        and (job.state = 'executing' or job.stopping_at is not null)
    )
  returning producer.uuid
)
select
  id, queue, uuid, fate,
  (select count(*) from notified) as notified_count, (select count(*) from buried) as buried_count
from rescued

-- name: attempts_of
-- The jobs that the producers :uuids have as running. Index: oban_jobs_running_index.
select job.id from {prefix}.oban_jobs as job
where job.attempted_by[2] = any(cast(:uuids as text[]))
  and (job.state = 'executing' or job.stopping_at is not null)
order by job.id

-- name: rescue_old
-- Rescues up to :limit attempts of ours that began more than :age seconds ago, whoever runs them.
-- Only for those who ask for such a bound: nothing says that their code has ended.
-- Index: oban_jobs_running_index.
with found as materialized (
  select job.id from {prefix}.oban_jobs as job
  where job.attempted_by[2] = any(array(select cast(uuid as text) from {prefix}.oban_owners))
    and (job.state = 'executing' or job.stopping_at is not null)
    and job.attempted_at
      < timezone('UTC', statement_timestamp()) - cast(:age as float8) * interval '1 second'
), old as materialized (
  select job.id, job.attempt, job.max_attempts, job.state = 'executing' as executing
  from {prefix}.oban_jobs as job
  where job.id = any(array(select id from found order by id limit cast(:limit as int)))
    and (job.state = 'executing' or job.stopping_at is not null)
  order by job.id
  for update skip locked
), rescued as (
  update {prefix}.oban_jobs as job
  set
    state = case
      when not old.executing then job.state
      when old.attempt >= old.max_attempts then 'discarded'
      else 'available'
    end,
    discarded_at = case
      when old.executing and old.attempt >= old.max_attempts
      then timezone('UTC', statement_timestamp())
      else job.discarded_at
    end,
    errors = case
      when old.executing then job.errors || jsonb_build_object(
        'attempt', job.attempt,
        'at', (to_jsonb(timezone('UTC', statement_timestamp())) #>> '{}') || 'Z',
        'error', 'rescued, since it ran for more than lifeline.rescue_after, which is '
          || cast(:age as float8) || ' s'
      )
      else job.errors
    end,
    stopping_at = null
  from old
  where job.id = old.id and job.id = any(array(select id from old))
  returning job.id, job.queue, job.state, job.attempted_by[2] as uuid
), notified as (
  select pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text))
  from (select distinct queue from rescued where state = 'available') as queues
)
select
  id, queue, uuid,
  case state
    when 'available' then 'rescued' when 'discarded' then 'exhausted' else 'stopped'
  end as fate,
  (select count(*) from notified) as notified_count
from rescued

-- name: forget_silent
-- Forgets our producers that have shown no sign of life for a day and that no job names as running
-- it, their heartbeats, what was commanded of nodes that are gone since
-- then, and commands that are over. Returns how many records of producers.
-- Index: oban_jobs_running_index.
with gone as (
  delete from {prefix}.oban_producers
  where updated_at < timezone('UTC', statement_timestamp()) - interval '1 day'
    and uuid in (select uuid from {prefix}.oban_owners)
), living as materialized (
  select name, node from {prefix}.oban_owners
), seen as (
  update {prefix}.oban_queue_intents as intent
  set seen_at = statement_timestamp()
  where node <> cast(:every as text)
    and exists (
      select from living where living.name = intent.name and living.node = intent.node
    )
), over as (
  delete from {prefix}.oban_queue_intents as intent
  where intent.expires_at < statement_timestamp()
    or (
      intent.node <> cast(:every as text) and intent.seen_at < statement_timestamp() - interval '1 day'
      and not exists (
        select from living where living.name = intent.name and living.node = intent.node
      )
    )
), forgotten as (
  delete from {prefix}.oban_owners as owner
  where owner.seen_at < statement_timestamp() - interval '1 day'
    and not exists (
      select from {prefix}.oban_producers as producer
      where producer.uuid = owner.uuid
        and producer.updated_at >= timezone('UTC', statement_timestamp()) - interval '1 day'
    )
    and (
      select true from {prefix}.oban_jobs as job
      where job.attempted_by[2] = cast(owner.uuid as text)
        and (job.state = 'executing' or job.stopping_at is not null)
      limit 1
    ) is null
  returning owner.uuid
)
select count(*) as forgotten_count from forgotten

-- name: list_producers
-- The producers recorded as ours, what their last heartbeats said, and how many jobs name each as
-- running them. One that died is listed until it is forgotten. Index: oban_jobs_running_index.
select
  cast(owner.uuid as text) as uuid, owner.name, owner.node, owner.queue,
  cast(extract(epoch from coalesce(timezone('UTC', producer.started_at), owner.inserted_at)) as float8)
    as started_at,
  (
    select count(*) from {prefix}.oban_jobs as job
    where job.attempted_by[2] = cast(owner.uuid as text)
      and (job.state = 'executing' or job.stopping_at is not null)
  ) as running_count,
  cast(producer.meta as text) as meta,
  date_part('epoch', statement_timestamp()) - date_part('epoch', producer.updated_at) as beat_age,
  owner.max_age
from {prefix}.oban_owners as owner
left join {prefix}.oban_producers as producer using (uuid)
order by owner.node, owner.queue, owner.inserted_at
