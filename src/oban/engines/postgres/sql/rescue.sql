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

-- name: attempts_of
-- The jobs that the producers :uuids have as running. Index: oban_jobs_running_index.
select job.id from {prefix}.oban_jobs as job
where job.attempted_by[2] = any(cast(:uuids as text[]))
  and (job.state = 'executing' or job.stopping_at is not null)
order by job.id
