-- part: kept
-- Adds to the rows of :grain what is `found`. Of one span there are at most :most rows that tell the
-- node; what is beyond is put together without it, of which there are again at most :most, and the rest
-- in one row for each state, under :rest. Two that add at once may each find room: so it may be a few
-- more. Rows are written, and so locked, in the order of their key.
span_size as materialized (
  select
    moment.at,
    (
      select count(*) from {prefix}.oban_metrics
      where grain = cast(:grain as text) and at = moment.at
    ) as row_count,
    (
      select count(*) from {prefix}.oban_metrics
      where grain = cast(:grain as text) and at = moment.at and node = cast(:rest as text)
    ) as nodeless_count
  from (select distinct at from found) as moment
), recognized as materialized (
  select
    found.at, found.queue, found.worker, found.node, found.state, found.finished, found.exec, found.wait,
    (
      select true from {prefix}.oban_metrics as known
      where known.grain = cast(:grain as text) and known.at = found.at and known.queue = found.queue
        and known.worker = found.worker and known.node = found.node and known.state = found.state
    ) is true as is_known
  from found
), placed as materialized (
  select
    at, queue, worker, state, finished, exec, wait,
    case
      when is_known or row_count + dense_rank() over (
        partition by at, is_known order by queue, worker, state, node
      ) <= cast(:most as int)
      then node
      else cast(:rest as text)
    end as node
  from recognized join span_size using (at)
), gathered as materialized (
  select
    at, queue, worker, node, state, finished, exec, wait,
    node = cast(:rest as text) and (
      select true from {prefix}.oban_metrics as known
      where known.grain = cast(:grain as text) and known.at = placed.at
        and known.queue = placed.queue and known.worker = placed.worker
        and known.node = placed.node and known.state = placed.state
    ) is null as is_new
  from placed
), folded as materialized (
  select
    at, case when is_rest then cast(:rest as text) else queue end as queue,
    case when is_rest then cast(:rest as text) else worker end as worker,
    node, state, finished, exec, wait
  from (
    select
      at, queue, worker, node, state, finished, exec, wait,
      is_new and nodeless_count + dense_rank() over (
        partition by at, is_new order by queue, worker, state
      ) > cast(:most as int) as is_rest
    from gathered join span_size using (at)
  ) as ranked
), timed as materialized (
  select
    at, queue, worker, node, state,
    jsonb_object_agg(bin, times) filter (where kind = 'exec') as exec,
    jsonb_object_agg(bin, times) filter (where kind = 'wait') as wait
  from (
    select at, queue, worker, node, state, kind, bin, sum(times) as times
    from (
      select at, queue, worker, node, state, 'exec' as kind, key as bin, cast(value as bigint) as times
      from folded cross join lateral jsonb_each_text(exec)
      union all
      select at, queue, worker, node, state, 'wait', key, cast(value as bigint)
      from folded cross join lateral jsonb_each_text(wait)
    ) as each_bin
    group by at, queue, worker, node, state, kind, bin
  ) as each_sum
  group by at, queue, worker, node, state
), counted as materialized (
  select at, queue, worker, node, state, cast(sum(finished) as bigint) as finished
  from folded
  group by at, queue, worker, node, state
), kept as (
  insert into {prefix}.oban_metrics as metric
    (grain, at, queue, worker, node, state, finished, exec, wait)
  select cast(:grain as text), at, queue, worker, node, state, finished, exec, wait
  from counted left join timed using (at, queue, worker, node, state)
  order by at, queue, worker, node, state
  on conflict (grain, at, queue, worker, node, state) do update
  set
    finished = metric.finished + excluded.finished,
    exec = {prefix}.oban_merged_bins(metric.exec, excluded.exec),
    wait = {prefix}.oban_merged_bins(metric.wait, excluded.wait)
  returning 1
)

-- name: plan_simply
-- For the statements of this transaction: they are not compiled, which takes longer than what is compiled
-- (nobody knows how many bins there are, and many are expected); and they are ended once they take more
-- than :milliseconds, where that is given.
select
  set_config('jit', 'off', true) as jit,
  case when cast(:milliseconds as int) is not null then set_config(
    'statement_timeout', cast(cast(:milliseconds as int) as text), true
  ) end as statement_timeout

-- name: look_at_finished
-- What a count needs to know, and the lock for it: up to where jobs are counted, the clock, and the
-- transactions that are writing jobs, or wait to. These are known by their lock on the table, which they
-- have before they have a transaction's number, and until what they wrote can be seen. Where nothing was
-- counted yet, or for long, counting begins :reach seconds ago.
with mark as (
  insert into {prefix}.oban_metrics_mark as mark (counted_to, hours_to, days_to, looked_at)
  select
    since, date_trunc('hour', since, 'UTC'), date_trunc('day', since, 'UTC'),
    statement_timestamp()
  from (
    select statement_timestamp() - cast(:reach as float8) * interval '1 second' as since
  ) as first
  on conflict (id) do update
  set
    counted_to = greatest(mark.counted_to, excluded.counted_to), looked_at = excluded.looked_at
  returning mark.counted_to
)
select
  cast(extract(epoch from statement_timestamp()) as float8) as at,
  (select cast(extract(epoch from counted_to) as float8) from mark) as counted_to,
  array(
    select distinct held.virtualtransaction from pg_locks as held
    where held.locktype = 'relation' and held.mode = 'RowExclusiveLock'
      and held.relation = to_regclass(:jobs_table)
      and held.database = (select oid from pg_database where datname = current_database())
  ) as writers,
  set_config('jit', 'off', true) as jit

-- name: count_again
-- For when jobs are counted up to a time that is yet to come, since the clock was set back, and which jobs
-- will bear once more: counts again from the minute that it is now, as if nothing had been counted or put
-- together since. What attempts took stays. Returns up to where jobs are counted now; nothing where it was
-- another who had counted further while the look waited for him. Index: the primary key.
with moment as materialized (
  select
    date_trunc('minute', statement_timestamp(), 'UTC') as this_minute,
    date_trunc('hour', statement_timestamp(), 'UTC') as this_hour,
    date_trunc('day', statement_timestamp(), 'UTC') as this_day
  from {prefix}.oban_metrics_mark
  where id and counted_to > statement_timestamp()
), moved as (
  update {prefix}.oban_metrics_mark
  set
    counted_to = this_minute,
    hours_to = least(hours_to, this_hour), days_to = least(days_to, this_day)
  from moment
  where id
), emptied as (
  update {prefix}.oban_metrics set finished = 0
  from moment
  where grain = 'minute' and at >= this_minute and finished > 0
), dropped as (
  delete from {prefix}.oban_metrics using moment
  where (grain = 'hour' and at >= this_hour) or (grain = 'day' and at >= this_day)
)
select cast(extract(epoch from this_minute) as float8) as counted_to from moment

-- part: ended_queues(state)
-- The queues with jobs that ended as {state}, found by a step from each to the next in the index.
{state}_queue as (
  (
    select queue from {prefix}.oban_jobs where state = '{state}' order by queue limit 1
  )
  union all
  select (
    select job.queue from {prefix}.oban_jobs as job
    where job.state = '{state}' and job.queue > last.queue
    order by job.queue limit 1
  )
  from {state}_queue as last where last.queue is not null
)

-- part: just_ended(state)
-- The jobs that ended as {state} within the span. `offset 0` has each queue looked for by itself.
select job.{state}_at as ended_at, job.queue, job.worker, job.attempted_by, '{state}' as state
from span cross join {state}_queue as each cross join lateral (
  select {state}_at, queue, worker, attempted_by from {prefix}.oban_jobs
  where state = '{state}' and queue = each.queue
    and {state}_at > span.after and {state}_at <= span.until
  order by {state}_at
  offset 0
) as job

-- name: count_finished
-- Counts the jobs that ended after those that are counted and up to :until, and moves the mark there.
-- Whoever sends it again, or at the same time, finds nothing left. A partial index is only taken for a
-- state that stands in the statement. Indexes: oban_jobs_completed_index, oban_jobs_cancelled_index,
-- oban_jobs_discarded_index.
with recursive span as materialized (
  select
    timezone('UTC', counted_to) as after, timezone('UTC', to_timestamp(cast(:until as float8))) as until
  from {prefix}.oban_metrics_mark
  where id and counted_to < to_timestamp(cast(:until as float8))
  for update
), {ended_queues(completed)}, {ended_queues(cancelled)}, {ended_queues(discarded)},
found as materialized (
  select at, queue, worker, node, state, count(*) as finished,
    cast(null as jsonb) as exec, cast(null as jsonb) as wait
  from (
    select
      timezone('UTC', date_trunc('minute', ended_at)) as at, queue, worker,
      coalesce(left(attempted_by[1], 255), '') as node, state
    from (
      {just_ended(completed)}
      union all {just_ended(cancelled)}
      union all {just_ended(discarded)}
    ) as ended
  ) as named
  group by at, queue, worker, node, state
), {kept}, moved as (
  update {prefix}.oban_metrics_mark
  set counted_to = to_timestamp(cast(:until as float8))
  where id and exists (select from span)
)
select cast(coalesce(sum(finished), 0) as bigint) as finished, (select count(*) from kept) as kept_count
from found

-- name: add_times
-- Adds the sketches in the JSON list :times to the minute that it is now.
with found as materialized (
  select
    date_trunc('minute', statement_timestamp(), 'UTC') as at,
    queue, worker, node, state, cast(0 as bigint) as finished, exec, wait
  from json_to_recordset(cast(:times as json)) as told(
    queue text, worker text, node text, state text, exec jsonb, wait jsonb
  )
), {kept}
select count(*) as kept_count from kept

-- name: roll_up
-- Makes a row of the longer spans of those in it: hours of minutes, or days of hours, for the next span
-- that has any and is over. What is told late may come two minutes after. The mark moves with it, so it
-- is done once. Returns how many rows were made, none where there was no such span.
with mark as materialized (
  select
    case cast(:grain as text) when 'hour' then hours_to else days_to end as done_to,
    case cast(:grain as text)
      when 'hour' then date_trunc(
        'hour', least(counted_to, statement_timestamp() - interval '2 minutes'), 'UTC'
      )
      else date_trunc('day', hours_to, 'UTC')
    end as ready_to
  from {prefix}.oban_metrics_mark
  where id
  for update
), span as materialized (
  select
    least(first.at, mark.ready_to) as after,
    least(first.at + cast('1 ' || cast(:grain as text) as interval), mark.ready_to) as until
  from mark
  cross join lateral (
    select coalesce(
      date_trunc(cast(:grain as text), min(at), 'UTC'), mark.ready_to
    ) as at
    from {prefix}.oban_metrics
    where grain = cast(:from_grain as text) and at >= mark.done_to
  ) as first
  where mark.done_to < mark.ready_to
), found as materialized (
  select
    span.after as at, metric.queue, metric.worker, metric.node, metric.state, metric.finished,
    metric.exec, metric.wait
  from span
  join {prefix}.oban_metrics as metric
    on metric.grain = cast(:from_grain as text) and metric.at >= span.after and metric.at < span.until
), {kept}, moved as (
  update {prefix}.oban_metrics_mark
  set
    hours_to = case cast(:grain as text) when 'hour' then span.until else hours_to end,
    days_to = case cast(:grain as text) when 'day' then span.until else days_to end
  from span
  where id
)
select count(*) as kept_count from kept

-- name: forget_metrics
-- Deletes up to :limit rows of spans that began so many seconds ago as :kept, a JSON object, says of their
-- grain; but none that no longer span was made of yet. Returns how many. Index: the primary key.
with mark as materialized (
  select hours_to, days_to from {prefix}.oban_metrics_mark where id
), old as materialized (
  select metric.ctid as place
  from json_each_text(cast(:kept as json)) as rule(grain, seconds)
  cross join mark
  join {prefix}.oban_metrics as metric
    on metric.grain = rule.grain
    and metric.at < least(
      statement_timestamp() - cast(rule.seconds as float8) * interval '1 second',
      case rule.grain when 'minute' then hours_to when 'hour' then days_to end
    )
  limit cast(:limit as int)
  for update of metric skip locked
), forgotten as (
  delete from {prefix}.oban_metrics where ctid = any(array(select place from old))
  returning 1
)
select count(*) as forgotten_count from forgotten

-- name: broadcast
-- Sends each of :payloads on the one of :channels that stands in the same place, in this order.
select count(*) as told_count
from (
  select pg_notify(channel, payload)
  from unnest(cast(:channels as text[]), cast(:payloads as text[])) as message(channel, payload)
) as told

-- name: read_metrics
-- What ended in the last :since seconds, in steps of :step, for each of the first :limit groups :by; the
-- others are one, called :rest. Steps of days begin at midnight and those of weeks on Mondays. As finely as :grain says; what no span of that grain was made of yet is
-- taken from the finer ones. Returns a row for each group and step with anything in it, and one without
-- a group: where the first step begins, and the one it is now. Index: the primary key.
with mark as materialized (
  select
    coalesce(max(hours_to), '-infinity') as hours_to, coalesce(max(days_to), '-infinity') as days_to
  from {prefix}.oban_metrics_mark
), reach as materialized (
  select
    cast(:step as float8) * interval '1 second' as step,
    date_bin(
      cast(:step as float8) * interval '1 second',
      statement_timestamp() - cast(:since as float8) * interval '1 second',
      to_timestamp(345600)
    ) + cast(:step as float8) * interval '1 second' as begins_at,
    date_bin(
      cast(:step as float8) * interval '1 second', statement_timestamp(),
      to_timestamp(345600)
    ) as ends_at
), each_row as materialized (
  select
    case cast(:by as text)
      when 'queue' then metric.queue
      when 'worker' then metric.worker
      when 'node' then metric.node
      else metric.state
    end as name,
    date_bin(reach.step, metric.at, reach.begins_at) as at,
    metric.state, metric.finished, metric.exec, metric.wait
  from mark
  cross join reach
  cross join lateral (
    select at, queue, worker, node, state, finished, exec, wait from {prefix}.oban_metrics
    where grain = 'minute'
      and at >= greatest(
        reach.begins_at, case when cast(:grain as text) <> 'minute' then mark.hours_to end
      )
    union all
    select at, queue, worker, node, state, finished, exec, wait from {prefix}.oban_metrics
    where grain = 'hour' and cast(:grain as text) <> 'minute'
      and at >= greatest(
        reach.begins_at, case when cast(:grain as text) = 'day' then mark.days_to end
      )
      and at < mark.hours_to
    union all
    select at, queue, worker, node, state, finished, exec, wait from {prefix}.oban_metrics
    where grain = 'day' and cast(:grain as text) = 'day'
      and at >= reach.begins_at and at < mark.days_to
  ) as metric
  where (cast(:queue as text) is null or metric.queue = cast(:queue as text))
    and (cast(:worker as text) is null or metric.worker = cast(:worker as text))
    and (cast(:node as text) is null or metric.node = cast(:node as text))
    and (cast(:state as text) is null or metric.state = cast(:state as text))
), first_groups as materialized (
  select name from each_row
  group by name
  order by name = cast(:rest as text), sum(finished) desc, count(*) desc, name
  limit cast(:limit as int)
), grouped as materialized (
  select coalesce(first_groups.name, cast(:rest as text)) as name, at, state, finished, exec, wait
  from each_row left join first_groups using (name)
), counted as materialized (
  select name, at, jsonb_object_agg(state, finished) filter (where finished > 0) as counts
  from (
    select name, at, state, cast(sum(finished) as bigint) as finished from grouped
    group by name, at, state
  ) as each_state
  group by name, at
), timed as materialized (
  select
    name, at,
    json_object_agg(bin, times) filter (where kind = 'exec') as exec,
    json_object_agg(bin, times) filter (where kind = 'wait') as wait
  from (
    select name, at, kind, bin, sum(times) as times
    from (
      select name, at, 'exec' as kind, key as bin, cast(value as bigint) as times
      from grouped cross join lateral jsonb_each_text(exec)
      union all
      select name, at, 'wait', key, cast(value as bigint)
      from grouped cross join lateral jsonb_each_text(wait)
    ) as each_bin
    group by name, at, kind, bin
  ) as each_sum
  group by name, at
)
select
  name, cast(extract(epoch from at) as float8) as at,
  cast(counts as text) as counts, cast(exec as text) as exec, cast(wait as text) as wait
from counted left join timed using (name, at)
union all
select null, cast(extract(epoch from moment) as float8), null, null, null
from reach cross join lateral unnest(array[begins_at, ends_at]) as moment


-- name: group_jobs
-- Groups the jobs of the table by :part, a column, of args and meta by what :keys lead to within; the
-- first :limit groups by their number of jobs. Each filter that is null lets everything pass; :since is
-- for when they were inserted. How long the last attempt took is known of what has ended; how long it
-- waited, of what was ever run, but for what is due again since. Reads the whole table, for people and
-- their reports, or its :newest jobs, by the primary key. A group has a key of its own where it has no
-- name: what may be null is joined row by row.
with looked_at as (
  select
    job.state, job.queue, job.worker, job.attempted_by, job.args, job.meta, job.inserted_at,
    job.scheduled_at, job.attempted_at, job.completed_at, job.cancelled_at, job.discarded_at
  from {prefix}.oban_jobs as job
  where cast(:newest as int) is null
  union all
  (
    select
      job.state, job.queue, job.worker, job.attempted_by, job.args, job.meta, job.inserted_at,
      job.scheduled_at, job.attempted_at, job.completed_at, job.cancelled_at, job.discarded_at
    from {prefix}.oban_jobs as job
    where cast(:newest as int) is not null
    order by job.id desc
    limit cast(:newest as int)
  )
), named as (
  select
    case cast(:part as text)
      when 'state' then cast(job.state as text)
      when 'queue' then job.queue
      when 'worker' then job.worker
      when 'node' then job.attempted_by[1]
      when 'args' then job.args #>> cast(:keys as text[])
      when 'meta' then job.meta #>> cast(:keys as text[])
    end as name,
    cast(job.state as text) as state,
    cast(extract(epoch from case cast(job.state as text)
      when 'completed' then job.completed_at
      when 'cancelled' then job.cancelled_at
      when 'discarded' then job.discarded_at
    end - job.attempted_at) as float8) as exec,
    case when job.attempted_at > job.scheduled_at - interval '1 second'
      then cast(extract(epoch from job.attempted_at - job.scheduled_at) as float8)
    end as wait
  from looked_at as job
  where (
      cast(:since as float8) is null
      or job.inserted_at >= timezone('UTC', statement_timestamp())
        - cast(:since as float8) * interval '1 second'
    )
    and (cast(:state as text) is null or cast(job.state as text) = cast(:state as text))
    and (cast(:queue as text) is null or job.queue = cast(:queue as text))
    and (cast(:worker as text) is null or job.worker = cast(:worker as text))
    and (cast(:node as text) is null or job.attempted_by[1] = cast(:node as text))
), chosen as materialized (
  select coalesce('=' || name, '') as key, state, exec, wait from named
), each_state as materialized (
  select key, state, count(*) as job_count from chosen group by key, state
), top as materialized (
  select
    key, cast(sum(job_count) as bigint) as job_count, jsonb_object_agg(state, job_count) as counts
  from each_state
  group by key
  order by 2 desc, key = '', key
  limit cast(:limit as int)
), timed as materialized (
  select
    chosen.key,
    percentile_cont(array[0.5, 0.95, 0.99]) within group (order by chosen.exec)
      filter (where chosen.exec >= 0) as exec,
    cast(avg(chosen.exec) filter (where chosen.exec >= 0) as float8) as exec_mean,
    count(*) filter (where chosen.exec >= 0) as exec_count,
    percentile_cont(array[0.5, 0.95, 0.99]) within group (order by greatest(chosen.wait, 0))
      filter (where chosen.wait is not null) as wait,
    cast(avg(greatest(chosen.wait, 0)) filter (where chosen.wait is not null) as float8) as wait_mean,
    count(*) filter (where chosen.wait is not null) as wait_count
  from chosen join top on top.key = chosen.key
  group by chosen.key
)
select
  case when top.key <> '' then substr(top.key, 2) end as name, top.job_count, cast(top.counts as text) as counts,
  timed.exec, timed.exec_mean, timed.exec_count, timed.wait, timed.wait_mean, timed.wait_count
from top
join timed on timed.key = top.key
order by top.job_count desc, top.key = '', top.key
