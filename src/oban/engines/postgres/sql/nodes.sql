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
