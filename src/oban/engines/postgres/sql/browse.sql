-- part: matching
-- Whether a job passes what is asked for beside its state. Of :paths, a JSON list, each names a value
-- within args or meta by its keys, and the text that it is to be.
(
  (cast(:queue as text) is null or job.queue = cast(:queue as text))
  and (cast(:worker as text) is null or job.worker = cast(:worker as text))
  and (
    cast(:worker_like as text) is null
    or position(lower(cast(:worker_like as text)) in lower(job.worker)) > 0
  )
  and (cast(:node as text) is null or job.attempted_by[1] = cast(:node as text))
  and (cast(:tags as text[]) is null or job.tags @> cast(:tags as text[]))
  and (cast(:priority as int) is null or job.priority = cast(:priority as int))
  and (cast(:ids as bigint[]) is null or job.id = any(cast(:ids as bigint[])))
  and (cast(:up_to as bigint) is null or job.id <= cast(:up_to as bigint))
  and (
    cast(:since as float8) is null
    or greatest(
      job.inserted_at, job.attempted_at, job.completed_at, job.cancelled_at, job.discarded_at
    ) >= timezone('UTC', to_timestamp(cast(:since as float8)))
  )
  and (cast(:paths as text) is null or not exists (
    select from json_to_recordset(cast(cast(:paths as text) as json)) as wanted(
      field text, path text[], text text
    )
    where case wanted.field when 'args' then job.args else job.meta end #>> wanted.path
      is distinct from wanted.text
  ))
)

-- name: plan_in_order
-- For the statements of this transaction: jobs are read in the order of an index, and no more of them than
-- are wanted. Of a table that was never analyzed, or when it was small, the planner expects a few, and
-- would read and sort all. What must be sorted seems dear then, and is still not to be compiled.
select
  set_config('enable_seqscan', 'off', true) as enable_seqscan,
  set_config('enable_bitmapscan', 'off', true) as enable_bitmapscan,
  set_config('enable_sort', 'off', true) as enable_sort,
  set_config('jit', 'off', true) as jit

-- name: browse_newest
-- A page of all jobs, those with the greatest id first, from below :id. Of the :window first it returns
-- the :wanted first that match and, as no match, the last of them where there may be more behind.
-- Index: the primary key.
with seen as materialized (
  select id, is_match, row_number() over (order by id desc) as place
  from (
    select job.id, {matching} as is_match from {prefix}.oban_jobs as job
    where cast(:id as bigint) is null or job.id < cast(:id as bigint)
    order by job.id desc
    limit cast(:window as int)
  ) as looked_at
)
select id, cast(null as text) as moment, cast(null as int) as rank, is_match
from (
  (select id, is_match from seen where is_match order by id desc limit cast(:wanted as int))
  union all
  (select id, false from seen where place = cast(:window as int))
) as found
order by is_match desc, id desc

-- name: browse_named
-- The jobs of :ids that match, however old they are, in the order of their ids. Index: the primary key.
select job.id, cast(null as text) as moment, cast(null as int) as rank, true as is_match
from {prefix}.oban_jobs as job
where job.id = any(cast(:ids as bigint[]))
  and (cast(:state as text) is null or cast(job.state as text) = cast(:state as text))
  and {matching}
order by job.id desc
limit cast(:wanted as int)

-- name: browse_suspended
-- The same as `browse_newest` of those that are suspended. Index: oban_jobs_suspended_index.
with seen as materialized (
  select id, is_match, row_number() over (order by id desc) as place
  from (
    select job.id, {matching} as is_match from {prefix}.oban_jobs as job
    where job.state = 'suspended' and (cast(:id as bigint) is null or job.id < cast(:id as bigint))
    order by job.id desc
    limit cast(:window as int)
  ) as looked_at
)
select id, cast(null as text) as moment, cast(null as int) as rank, is_match
from (
  (select id, is_match from seen where is_match order by id desc limit cast(:wanted as int))
  union all
  (select id, false from seen where place = cast(:window as int))
) as found
order by is_match desc, id desc

-- name: browse_executing
-- The same of those that execute, the last that began first: they are never many. Index:
-- oban_jobs_running_index.
select
  job.id, cast(job.attempted_at as text) as moment, cast(null as int) as rank, true as is_match
from {prefix}.oban_jobs as job
where (job.state = 'executing' or job.stopping_at is not null)
  and job.state = 'executing' and {matching}
  and (
    cast(:id as bigint) is null
    or (
      cast(:moment as timestamp) is null
      and (job.attempted_at is not null or job.id < cast(:id as bigint))
    )
    or (job.attempted_at, job.id) < (cast(:moment as timestamp), cast(:id as bigint))
  )
order by job.attempted_at desc, job.id desc
limit cast(:wanted as int)

-- name: browse_due
-- The same of those that wait for their time, the soonest first. Index: oban_jobs_due_index.
with seen as materialized (
  select id, scheduled_at, is_match, row_number() over (order by scheduled_at, id) as place
  from (
    select
      job.id, job.scheduled_at,
      cast(job.state as text) = cast(:state as text) and {matching} as is_match
    from {prefix}.oban_jobs as job
    where job.state in ('scheduled', 'retryable')
      and (
        cast(:moment as timestamp) is null
        or (job.scheduled_at, job.id) > (cast(:moment as timestamp), cast(:id as bigint))
      )
    order by job.scheduled_at, job.id
    limit cast(:window as int)
  ) as looked_at
)
select id, cast(scheduled_at as text) as moment, cast(null as int) as rank, is_match
from (
  (
    select id, scheduled_at, is_match from seen where is_match
    order by scheduled_at, id limit cast(:wanted as int)
  )
  union all
  (select id, scheduled_at, false from seen where place = cast(:window as int))
) as found
order by is_match desc, scheduled_at, id

-- name: available_streams
-- The queues with jobs that can be claimed, in lanes or not; of the lanes the first :most. Indexes:
-- oban_jobs_free_index, oban_jobs_lane_index.
with recursive free_walk as (
  (
    select job.queue from {prefix}.oban_jobs as job
    where job.state = 'available' and job.attempt < job.max_attempts and job.lane is null
      and (cast(:queue as text) is null or job.queue = cast(:queue as text))
    order by job.queue
    limit 1
  )
  union all
  select (
    select job.queue from {prefix}.oban_jobs as job
    where job.state = 'available' and job.attempt < job.max_attempts and job.lane is null
      and (cast(:queue as text) is null or job.queue = cast(:queue as text))
      and job.queue > free_walk.queue
    order by job.queue
    limit 1
  )
  from free_walk
  where free_walk.queue is not null
), laned_walk as (
  (
    select job.queue, job.lane from {prefix}.oban_jobs as job
    where job.state = 'available' and job.attempt < job.max_attempts and job.lane is not null
      and (cast(:queue as text) is null or job.queue = cast(:queue as text))
    order by job.queue, job.lane
    limit 1
  )
  union all
  select following.queue, following.lane
  from laned_walk
  cross join lateral (
    select job.queue, job.lane from {prefix}.oban_jobs as job
    where job.state = 'available' and job.attempt < job.max_attempts and job.lane is not null
      and (cast(:queue as text) is null or job.queue = cast(:queue as text))
      and (job.queue, job.lane) > (laned_walk.queue, laned_walk.lane)
    order by job.queue, job.lane
    limit 1
  ) as following
)
select queue, cast(null as text) as lane from free_walk where queue is not null
union all
(select queue, lane from laned_walk limit cast(:most as int))

-- name: browse_available
-- The same of those that can be claimed, in the order of their priority and time. Each of :queues, and
-- each of the :lanes beside them, is looked into by itself, to :most jobs: behind where the first of
-- these was cut short nothing is certain. Lanes behind :last_lane of :last_queue, where there are so
-- many, are read as one, which takes as long as they have jobs. The planner knows :most, and so that it
-- is not to read all. Indexes: oban_jobs_free_index, oban_jobs_lane_index, oban_jobs_exhausted_index.
with stream as materialized (
  select queue, lane
  from unnest(cast(:queues as text[]), cast(:lanes as text[])) as given(queue, lane)
), seen as materialized (
  select
    first.id, first.priority, first.scheduled_at, first.is_match,
    row_number() over (
      partition by stream.queue, stream.lane
      order by first.priority, first.scheduled_at, first.id
    ) = cast(:most as int) as is_cut
  from stream
  cross join lateral (
    (
      select job.id, job.priority, job.scheduled_at, {matching} as is_match
      from {prefix}.oban_jobs as job
      where stream.lane is null and job.queue = stream.queue
        and job.state = 'available' and job.attempt < job.max_attempts and job.lane is null
        and (
          cast(:moment as timestamp) is null
          or (job.priority, job.scheduled_at, job.id)
            > (cast(:rank as int), cast(:moment as timestamp), cast(:id as bigint))
        )
      order by job.priority, job.scheduled_at, job.id
      limit cast(:most as int)
    )
    union all
    (
      select job.id, job.priority, job.scheduled_at, {matching} as is_match
      from {prefix}.oban_jobs as job
      where stream.lane is not null and job.queue = stream.queue and job.lane = stream.lane
        and job.state = 'available' and job.attempt < job.max_attempts
        and (
          cast(:moment as timestamp) is null
          or (job.priority, job.scheduled_at, job.id)
            > (cast(:rank as int), cast(:moment as timestamp), cast(:id as bigint))
        )
      order by job.priority, job.scheduled_at, job.id
      limit cast(:most as int)
    )
    limit cast(:most as int)
  ) as first
  union all
  select
    id, priority, scheduled_at, is_match,
    row_number() over (order by priority, scheduled_at, id) = cast(:most as int)
  from (
    select job.id, job.priority, job.scheduled_at, {matching} as is_match
    from {prefix}.oban_jobs as job
    where cast(:last_lane as text) is not null
      and job.state = 'available' and job.attempt < job.max_attempts and job.lane is not null
      and (job.queue, job.lane) > (cast(:last_queue as text), cast(:last_lane as text))
      and (cast(:queue as text) is null or job.queue = cast(:queue as text))
      and (
        cast(:moment as timestamp) is null
        or (job.priority, job.scheduled_at, job.id)
          > (cast(:rank as int), cast(:moment as timestamp), cast(:id as bigint))
      )
    order by job.priority, job.scheduled_at, job.id
    limit cast(:most as int)
  ) as others
  union all
  (
    select job.id, job.priority, job.scheduled_at, {matching}, false
    from {prefix}.oban_jobs as job
    where job.state = 'available' and job.attempt >= job.max_attempts
      and (
        cast(:moment as timestamp) is null
        or (job.priority, job.scheduled_at, job.id)
          > (cast(:rank as int), cast(:moment as timestamp), cast(:id as bigint))
      )
    order by job.priority, job.scheduled_at, job.id
    limit cast(:wanted as int)
  )
), cut as materialized (
  select priority, scheduled_at, id from seen where is_cut
  order by priority, scheduled_at, id
  limit 1
)
select id, cast(scheduled_at as text) as moment, priority as rank, is_match
from (
  (
    select seen.id, seen.priority, seen.scheduled_at, seen.is_match
    from seen
    left join cut on true
    where seen.is_match
      and (
        cut.id is null
        or (seen.priority, seen.scheduled_at, seen.id)
          <= (cut.priority, cut.scheduled_at, cut.id)
      )
    order by seen.priority, seen.scheduled_at, seen.id
    limit cast(:wanted as int)
  )
  union all
  (select id, priority, scheduled_at, false from cut)
) as found
order by is_match desc, priority, scheduled_at, id

-- part: first_ended_queue(state)
-- The first queue with jobs that ended as {state}, if that is the state asked for.
(
  select job.queue from {prefix}.oban_jobs as job
  where job.state = '{state}' and cast(:state as text) = '{state}'
  order by job.queue limit 1
)

-- part: next_ended_queue(state)
-- The same of those behind the one that the walk has come to.
(
  select job.queue from {prefix}.oban_jobs as job
  where job.state = '{state}' and cast(:state as text) = '{state}'
    and job.queue > walk.queue
  order by job.queue limit 1
)

-- name: ended_streams
-- The queues with jobs that ended as :state. A partial index is only taken for a state that stands in the
-- statement. Indexes: oban_jobs_completed_index, oban_jobs_cancelled_index, oban_jobs_discarded_index.
with recursive walk as (
  (
    select coalesce(
      {first_ended_queue(completed)},
      {first_ended_queue(cancelled)},
      {first_ended_queue(discarded)}
    ) as queue
  )
  union all
  select coalesce(
    {next_ended_queue(completed)},
    {next_ended_queue(cancelled)},
    {next_ended_queue(discarded)}
  )
  from walk
  where walk.queue is not null
)
select queue from walk where queue is not null

-- part: last_ended(state)
-- Of the stream's queue the :most jobs that ended last as {state}, if that is the state asked for. A
-- partial index is only taken for a state that stands in the statement.
(
  select job.id, job.{state}_at as ended_at, {matching} as is_match
  from {prefix}.oban_jobs as job
  where cast(:state as text) = '{state}'
    and job.state = '{state}' and job.queue = stream.queue
    and (
      cast(:since as float8) is null
      or job.{state}_at >= timezone('UTC', to_timestamp(cast(:since as float8)))
    )
    and (
      cast(:id as bigint) is null
      or (
        cast(:moment as timestamp) is null
        and (job.{state}_at is not null or job.id < cast(:id as bigint))
      )
      or (
        job.{state}_at <= cast(:moment as timestamp)
        and (job.{state}_at, job.id) < (cast(:moment as timestamp), cast(:id as bigint))
      )
    )
  order by job.{state}_at desc, job.id desc
  limit cast(:most as int)
)

-- name: browse_ended
-- The same of those that ended as :state, the last that ended first, behind those of which nobody
-- knows when; none that ended before :since is looked at. Each of :queues is looked into by itself, as
-- above. Indexes: oban_jobs_completed_index, oban_jobs_cancelled_index, oban_jobs_discarded_index.
with stream as materialized (
  select queue from unnest(cast(:queues as text[])) as given(queue)
), seen as materialized (
  select
    last.id, last.ended_at, last.is_match,
    row_number() over (
      partition by stream.queue order by last.ended_at desc, last.id desc
    ) = cast(:most as int) as is_cut
  from stream
  cross join lateral (
    {last_ended(completed)}
    union all {last_ended(cancelled)}
    union all {last_ended(discarded)}
    limit cast(:most as int)
  ) as last
), cut as materialized (
  select ended_at, id from seen where is_cut
  order by ended_at desc, id desc
  limit 1
)
select id, cast(ended_at as text) as moment, cast(null as int) as rank, is_match
from (
  (
    select seen.id, seen.ended_at, seen.is_match
    from seen
    left join cut on true
    where seen.is_match
      and (
        cut.id is null
        or (seen.ended_at is null and (cut.ended_at is not null or seen.id >= cut.id))
        or (seen.ended_at, seen.id) >= (cut.ended_at, cut.id)
      )
    order by seen.ended_at desc, seen.id desc
    limit cast(:wanted as int)
  )
  union all
  (select id, ended_at, false from cut)
) as found
order by is_match desc, ended_at desc, id desc

-- name: glance
-- The jobs among :ids as a list shows them, in no order: with their arguments only where those take up to
-- :most bytes as they are stored, which is told without reading them, and as few characters written out,
-- or some more. A condition would be looked at when all are written out. Index: the primary key.
select {glance_columns}, pg_column_size(job.args) as args_size
from {prefix}.oban_jobs as job
cross join lateral (
  select case when pg_column_size(job.args) <= cast(:most as int) then cast(job.args as text) end as args
) as written
cross join lateral (
  select case when length(written.args) <= 5 * cast(:most as int) then written.args end as args
) as given
where job.id = any(cast(:ids as bigint[]))

-- name: newest_id
-- The greatest id of all jobs, zero where there is none. Index: the primary key.
select coalesce(max(id), 0) as id from {prefix}.oban_jobs

-- name: last_runs
-- Of each cron entry in :entries the last :limit jobs, the newest first, among the :window newest of the
-- table and the jobs :known, which may be older. Meta of more than 2,000 bytes stands apart from its row:
-- to read it of each would take as long as all that was ever recorded is large. Index: the primary key.
with looked_at as materialized (
  select
    job.id, case when pg_column_size(job.meta) <= 2000 then job.meta ->> 'cron_name' end as entry
  from {prefix}.oban_jobs as job
  order by job.id desc
  limit cast(:window as int)
), run as (
  select id, entry from looked_at
  union
  select job.id, job.meta ->> 'cron_name'
  from {prefix}.oban_jobs as job
  where job.id = any(cast(:known as bigint[]))
), placed as (
  select id, entry, row_number() over (partition by entry order by id desc) as place
  from run
  where entry = any(cast(:entries as text[]))
)
select entry, id from placed where place <= cast(:limit as int)
order by entry, id desc

-- name: count_matching
-- How many jobs in :state, or of all, match; counts to :most and no further.
select count(*) as job_count
from (
  select from {prefix}.oban_jobs as job
  where (cast(:state as text) is null or cast(job.state as text) = cast(:state as text))
    and {matching}
  limit cast(:most as int)
) as found

-- name: census
-- How many jobs of each worker each queue has in each state. Reads the whole table: for a reader that
-- asks seldom, and keeps what it was told.
select queue, worker, cast(state as text) as state, count(*) as job_count
from {prefix}.oban_jobs
group by queue, worker, state

-- name: estimate
-- About how many jobs are in each state, from what the server has noted of the table: within some
-- percent, once autovacuum has been there.
with noted as (
  select
    cast(cast(column_stats.most_common_vals as text) as text[]) as states,
    column_stats.most_common_freqs as shares,
    greatest(cast(jobs.reltuples as float8), 0) as job_count
  from pg_class as jobs
  join pg_namespace as namespace on namespace.oid = jobs.relnamespace
  join pg_stats as column_stats
    on column_stats.schemaname = namespace.nspname and column_stats.tablename = jobs.relname
    and column_stats.attname = 'state'
  where jobs.oid = to_regclass(:jobs_table)
)
select state, cast(round(cast(noted.job_count as numeric) * cast(share as numeric)) as bigint) as job_count
from noted
cross join lateral unnest(noted.states, noted.shares) as each(state, share)

-- name: limit_time
-- The rest of the transaction takes :patience at most for each statement, none of which is compiled, or
-- shared out to more processes: for what a page reads either takes longer than reading it.
select
  set_config('statement_timeout', cast(:patience as text), true) as patience,
  set_config('jit', 'off', true) as jit,
  set_config('max_parallel_workers_per_gather', '0', true) as workers
