-- part: acknowledging
-- Saves how the attempts in the JSON list :acks ended. The fence: an ack counts only while its row is
-- executing under this producer and attempt, or was cancelled and is being stopped; then the state
-- stays and only the error is added. A row that somebody else has locked is skipped: one must not hold
-- up all. So is one that was changed after the statement began: it is found where it was locked, and
-- no more there. Index: the primary key; what was locked is then taken by its place in the table.
-- `case` keeps the planner from reading the whole running index for each ack: it is not seen to imply
-- that index.
ended as materialized (
  select * from json_to_recordset(cast(:acks as json)) as ack(
    id bigint, attempt int, state text, error text, delay float8, meta jsonb, uncounted boolean,
    slows jsonb
  )
  order by id
), fenced as materialized (
  select ack.*, own.place
  from ended as ack
  cross join lateral (
    select job.ctid as place from {prefix}.oban_jobs as job
    where job.id = ack.id and job.attempt = ack.attempt
      and job.attempted_by[2] = cast(:uuid as text)
      and case job.state
        when 'executing' then true
        when 'cancelled' then job.stopping_at is not null
        else false
      end
    for update skip locked
  ) as own
), acknowledged as (
  update {prefix}.oban_jobs as job
  set
    state = case
      when job.state = 'executing' then cast(ack.state as {prefix}.oban_job_state)
      else job.state
    end,
    attempt = case
      when job.state = 'executing' and ack.uncounted then job.attempt - 1
      else job.attempt
    end,
    scheduled_at = case
      when job.state = 'executing' and ack.delay is not null
      then timezone('UTC', statement_timestamp()) + ack.delay * interval '1 second'
      else job.scheduled_at
    end,
    completed_at = case
      when job.state = 'executing' and ack.state = 'completed'
      then timezone('UTC', statement_timestamp())
      else job.completed_at
    end,
    cancelled_at = case
      when job.state = 'executing' and ack.state = 'cancelled'
      then timezone('UTC', statement_timestamp())
      else job.cancelled_at
    end,
    discarded_at = case
      when job.state = 'executing' and ack.state = 'discarded'
      then timezone('UTC', statement_timestamp())
      else job.discarded_at
    end,
    meta = case when ack.meta is null then job.meta else coalesce(job.meta, '{}') || ack.meta end,
    errors = case
      when ack.error is null then job.errors
      else job.errors || jsonb_build_object(
        'attempt', ack.attempt,
        'at', (to_jsonb(timezone('UTC', statement_timestamp())) #>> '{}') || 'Z',
        'error', ack.error
      )
    end,
    stopping_at = null
  from fenced as ack
  where job.ctid = any(array(select place from fenced)) and job.id = ack.id
  returning job.id, job.lane, ack.slows
), unsaved as materialized (
  select id, attempt from ended
  where id in (select id from ended except select id from acknowledged)
)

-- part: answered
-- The ids of acks that were not saved, and of those among them that are to be sent again. With a limit
-- the row of each is looked for by its id: joined, the planner reads the whole of a table that is small.
array(select id from unsaved) as unsaved,
  array(
    select unsaved.id from unsaved
    where (
      select true from {prefix}.oban_jobs as job
      where job.id = unsaved.id and job.attempt = unsaved.attempt
        and job.attempted_by[2] = cast(:uuid as text)
        and case job.state
          when 'executing' then true
          when 'cancelled' then job.stopping_at is not null
          else false
        end
      limit 1
    )
  ) as held

-- part: claimable
-- The jobs of :queue in the order they run, of those that stand at :start_priority, :start_at and
-- :start_id or behind: so a claim need not walk over what was claimed before, as long as a transaction
-- that somebody has left open keeps its index entries from being removed. A claim needs the producer's
-- record in oban_owners: without it nobody could rescue the job.
where state = 'available' and queue = cast(:queue as text) and attempt < max_attempts
    and (priority, scheduled_at, id) >= (
      cast(:start_priority as int), cast(cast(:start_at as text) as timestamp),
      cast(:start_id as bigint)
    )
    and exists (select from {prefix}.oban_owners where uuid = cast(cast(:uuid as text) as uuid))

-- part: claimed
-- Claims the candidates, by their place in the table.
claimed as (
  update {prefix}.oban_jobs as job
  set
    state = 'executing',
    attempt = job.attempt + 1,
    attempted_at = timezone('UTC', statement_timestamp()),
    attempted_by = array[cast(:node as text), cast(:uuid as text)]
  where job.ctid = any(array(select place from candidate))
  returning job.*
)

-- name: turn
-- One producer's round trip: saves how attempts ended, then claims up to :demand jobs. Either may be
-- nothing. Jobs that stand in a lane are not claimed: they have limits to pass. Returns one row about
-- the acks, and a row for each claimed job. Index: oban_jobs_free_index.
with {acknowledging}, candidate as materialized (
  select ctid as place from {prefix}.oban_jobs
  {claimable}
    and lane is null
  order by priority, scheduled_at, id
  limit cast(:demand as int)
  for update skip locked
), {claimed}
select {answered}, null as again_in, null as last_lane, null as unknown_limits, null as refusing,
  null as is_rated, {no_claimed_columns}
union all
select null, null, null, null, null, null, null, {claimed_columns} from claimed as job

-- name: unlimited_turn
-- The same, whatever limits there are: for who runs one job after the other.
with {acknowledging}, candidate as materialized (
  select ctid as place from {prefix}.oban_jobs
  {claimable}
  order by priority, scheduled_at, id
  limit cast(:demand as int)
  for update skip locked
), {claimed}
select {answered}, null as again_in, null as last_lane, null as unknown_limits, null as refusing,
  null as is_rated, {no_claimed_columns}
union all
select null, null, null, null, null, null, null, {claimed_columns} from claimed as job

-- name: limited_turn
-- The same within limits that hold over all nodes; see `oban_claim_limited`, which claims. Returns
-- beside the acks what its last row says.
with {acknowledging}, freed as materialized (
  select coalesce(
    jsonb_agg(jsonb_build_array(lane, slows -> 'seconds', slows -> 'limit')), '[]'
  ) as freed
  from (select distinct lane, slows from acknowledged) as each
), taken as materialized (
  select
    each.again_in, each.last_lane, each.unknown_limits, each.refusing, each.is_rated, each.id, each.worker, each.attempt,
    each.max_attempts, each.priority, each.args, each.meta, each.errors, each.tags,
    each.inserted, each.scheduled, each.attempted, each.completed, each.cancelled, each.discarded
  from freed, {prefix}.oban_claim_limited(
    cast(:queue as text), cast(:node as text), cast(:uuid as text), cast(:demand as int),
    cast(:global_limit as int), cast(:allowed as bigint), cast(:period as float8),
    cast(:spans as int), cast(:most_lanes as int), cast(:from_lane as text),
    cast(:skipped as text[]), freed.freed,
    cast(:insert_channel as text)
  ) as each
)
select
  {answered}, again_in, last_lane, unknown_limits, refusing, is_rated, {no_claimed_columns}
from taken where id is null
union all
select
  null, null, null, null, null, null, null, id, worker, attempt, max_attempts, priority, args, meta, errors,
  tags, inserted, scheduled, attempted, completed, cancelled, discarded
from taken where id is not null

-- name: give_back
-- Makes the attempts of this producer available again, uncounted, but for those in the JSON list
-- :kept, which still run or wait to be acknowledged. An attempt being stopped is only let go.
-- Index: oban_jobs_running_index.
with kept as materialized (
  select * from json_to_recordset(cast(:kept as json)) as kept(id bigint, attempt int)
), lost as materialized (
  select job.id from {prefix}.oban_jobs as job
  where job.attempted_by[2] = cast(:uuid as text) and (job.state = 'executing' or job.stopping_at is not null)
    and not exists (select from kept where kept.id = job.id and kept.attempt = job.attempt)
  order by job.id
  for update
), returned as (
  update {prefix}.oban_jobs as job
  set
    state = case when job.state = 'executing' then 'available' else job.state end,
    attempt = case
      when job.state = 'executing' then greatest(job.attempt - 1, 0)
      else job.attempt
    end,
    stopping_at = null
  where job.id = any(array(select id from lost))
  returning job.id, job.state, job.queue
), notified as (
  select pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text))
  from (select distinct queue from returned where state = 'available') as queues
)
select id, (select count(*) from notified) as notified_count from returned

-- name: end_lost_turns
-- Ends the sessions that a lost connection of this producer may have left on the server, and waits
-- until they are gone: a turn still running there could commit a claim after we have reconciled.
select pg_terminate_backend(pid, 5000) as ended
from pg_stat_activity
where application_name = cast(:label as text) and pid <> pg_backend_pid()

-- name: stopped_attempts
-- Of the attempts in the JSON list :running, those that are no longer this producer's to run:
-- cancelled, rescued or deleted. One cancelled by somebody who did not say that it is being stopped
-- is marked so here, and stays busy until its code has ended.
with running as materialized (
  select * from json_to_recordset(cast(:running as json)) as running(id bigint, attempt int)
), marked as (
  update {prefix}.oban_jobs as job
  set stopping_at = timezone('UTC', statement_timestamp())
  from running
  where job.id = running.id and job.attempt = running.attempt and job.attempted_by[2] = cast(:uuid as text)
    and case job.state when 'cancelled' then job.stopping_at is null else false end
  returning job.id
)
select running.id, running.attempt, (select count(*) from marked) as marked_count
from running
where not exists (
  select from {prefix}.oban_jobs as job
  where job.id = running.id and job.attempt = running.attempt and job.attempted_by[2] = cast(:uuid as text)
    and job.state = 'executing'
)

-- name: stage_jobs
-- Makes up to :limit due jobs available and discards jobs of :queues that are available without an
-- attempt left. Returns where the first available job of each of :queues stands and how long it was
-- sought for, how many rows moved, and in how many seconds the next job is due. Several nodes share
-- the work: rows another one holds are skipped.
-- Tells also which of :queues have jobs in a lane, and jobs that are not in the one they belong in.
-- Indexes: oban_jobs_due_index, oban_jobs_exhausted_index, oban_jobs_free_index and
-- oban_jobs_lane_index. The planner
-- takes :limit for the number of rows, and joined with them would read the whole table each second;
-- so it would for a queue that it takes for full, if that were not asked for in a claim's order.
with due as materialized (
  select id from {prefix}.oban_jobs
  where state in ('scheduled', 'retryable')
    and scheduled_at <= timezone('UTC', statement_timestamp())
  order by scheduled_at, id
  limit cast(:limit as int)
  for update skip locked
), staged as (
  update {prefix}.oban_jobs as job
  set state = 'available'
  where job.id = any(array(select id from due))
  returning job.queue, job.priority, job.scheduled_at, job.id
), exhausted as materialized (
  select id from {prefix}.oban_jobs
  where state = 'available' and attempt >= max_attempts
    and queue = any(cast(:queues as text[]))
  limit cast(:limit as int)
  for update skip locked
), discarded as (
  update {prefix}.oban_jobs as job
  set
    state = 'discarded',
    discarded_at = timezone('UTC', statement_timestamp()),
    errors = job.errors || jsonb_build_object(
      'attempt', job.attempt,
      'at', (to_jsonb(timezone('UTC', statement_timestamp())) #>> '{}') || 'Z',
      'error', 'available without an attempt left'
    )
  where job.id = any(array(select id from exhausted))
  returning job.id
), notified as (
  select pg_notify(:insert_channel, cast(json_build_object('queue', queue) as text))
  from (select distinct queue from staged) as queues
), head as materialized (
  select
    asked.queue, first.priority, first.scheduled_at, first.id,
    clock_timestamp() - asked.began_at as sought_for
  from (
    select queue, clock_timestamp() as began_at from unnest(cast(:queues as text[])) as queue
  ) as asked
  cross join lateral (
    select priority, scheduled_at, id from (
      (
        select job.priority, job.scheduled_at, job.id from {prefix}.oban_jobs as job
        where job.state = 'available' and job.queue = asked.queue and job.attempt < job.max_attempts
          and job.lane is null
        order by job.priority, job.scheduled_at, job.id
        limit 1
      )
      union all
      (
        select job.priority, job.scheduled_at, job.id from {prefix}.oban_jobs as job
        where job.state = 'available' and job.queue = asked.queue and job.attempt < job.max_attempts
          and job.lane is not null
        order by job.lane
        limit 1
      )
      union all
      (
        select priority, scheduled_at, id from staged where staged.queue = asked.queue
        order by priority, scheduled_at, id limit 1
      )
    ) as either
    order by priority, scheduled_at, id
    limit 1
  ) as first
), lane as materialized (
  select
    asked.queue,
    (
      select true from {prefix}.oban_jobs as job
      where job.state = 'available' and job.queue = asked.queue and job.attempt < job.max_attempts
        and job.lane is not null
      order by job.lane
      limit 1
    ) is true as is_laned,
    (
      partition.mark is not null and (
        select true from {prefix}.oban_jobs as job
        where job.state = 'available' and job.queue = asked.queue and job.attempt < job.max_attempts
          and job.lane is null
        order by job.priority, job.scheduled_at, job.id
        limit 1
      ) is true
    ) or (
      select true from {prefix}.oban_jobs as job
      where job.state = 'available' and job.queue = asked.queue and job.attempt < job.max_attempts
        and job.lane < coalesce(partition.mark, ' ')
      order by job.lane
      limit 1
    ) is true or (
      select true from {prefix}.oban_jobs as job
      where job.state = 'available' and job.queue = asked.queue and job.attempt < job.max_attempts
        and job.lane >= coalesce(partition.mark, ' ') || '~'
      order by job.lane
      limit 1
    ) is true as is_misplaced
  from unnest(cast(:queues as text[])) as asked(queue)
  left join {prefix}.oban_partitions as partition on partition.queue = asked.queue
)
select
  (select count(*) from staged) as staged_count,
  (select count(*) from discarded) as discarded_count,
  (select count(*) from notified) as notified_count,
  (
    select cast(coalesce(json_agg(json_build_array(
      queue, priority, cast(scheduled_at as text), id,
      extract(epoch from sought_for)
    )), '[]') as text)
    from head
  ) as heads,
  array(select queue from lane where is_laned) as laned_queues,
  array(select queue from lane where is_misplaced) as misplaced_queues,
  (
    select cast(extract(epoch from scheduled_at - timezone('UTC', statement_timestamp())) as float8)
    from {prefix}.oban_jobs
    where state in ('scheduled', 'retryable')
      and scheduled_at > timezone('UTC', statement_timestamp())
    order by scheduled_at, id
    limit 1
  ) as next_due_in,
  cast(extract(epoch from statement_timestamp()) as float8) as at

-- name: hasten_jobs
-- Makes the scheduled and retryable jobs of :queue available, whatever their time; they keep it and
-- so still run soonest first. Rows are locked in id order. Returns how many.
with locked as materialized (
  select id from {prefix}.oban_jobs
  where state in ('scheduled', 'retryable') and queue = cast(:queue as text)
  order by id
  for update
), hastened as (
  update {prefix}.oban_jobs as job set state = 'available' from locked where job.id = locked.id
  returning job.id
)
select count(*) as hastened_count from hastened

-- name: clear_jobs
-- Deletes every job, and the record of queues that none of our producers runs. Returns how many
-- jobs.
with locked as materialized (
  select id from {prefix}.oban_jobs order by id for update
), deleted as (
  delete from {prefix}.oban_jobs as job using locked where job.id = locked.id returning job.id
), forgotten as (
  delete from {prefix}.oban_owned_queues as owned
  where not exists (select from {prefix}.oban_owners as owner where owner.queue = owned.queue)
)
select count(*) as deleted_count from deleted
