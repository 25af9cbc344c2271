-- Partitions of a queue, and limits that queues share. A job that passes any of them stands in a lane:
-- the jobs of a lane pass the same limits, so that all of them may run or none, and a claim looks at
-- the first of each lane, however many wait behind.
-- transaction: yes

-- 32 digits of the partition, if the queue has any, and after a space the names of shared limits.
alter table {prefix}.oban_jobs add column if not exists lane text collate "C";

-- A longer one would fit in no index, and so keep what is staged with it from being staged.
do $$ begin
  if not exists (
    select from pg_constraint
    where conrelid = to_regclass(quote_ident({prefix_text}) || '.oban_jobs')
      and conname = 'oban_lane_length'
  ) then
    alter table {prefix}.oban_jobs
      add constraint oban_lane_length check (length(lane) <= 1100) not valid;
  end if;
end $$;

-- What the partitions of a queue are made of, as its nodes were configured last: a list of paths, each
-- a field of the job and keys within. `mark` begins the lanes of jobs that were placed by it.
create table if not exists {prefix}.oban_partitions (
  queue text primary key,
  -- Null where the node that started last has said that there are none.
  paths jsonb,
  mark text
);

alter table {prefix}.oban_limiters
  -- Limits by a name of their own: what the nodes say, and what was commanded since.
  add column if not exists options jsonb,
  add column if not exists scaled jsonb,
  -- Back-pressure: nothing more starts until then.
  add column if not exists resting_until timestamptz,
  -- The queues of which a claim found no room.
  add column if not exists awaited_by text[] not null default '{}',
  -- By the spans of which period `spent` is kept.
  add column if not exists spent_period float8,
  -- What is kept of a partition means nothing after this.
  add column if not exists expires_at timestamptz,
  drop column if exists is_awaited;

drop function if exists {prefix}.oban_running_count(text, bigint);

-- The lane of a job, null where it has none. Anything may stand in args and meta. A job that names more
-- limits than a lane holds waits for one that nobody can define, and floods nothing.
create or replace function {prefix}.oban_lane(
  paths jsonb, mark text, worker text, args jsonb, meta jsonb
) returns text language plpgsql immutable as $$
declare
  names text;
  name_count integer;
  parts jsonb;
begin
  if jsonb_typeof(meta -> 'limits') = 'array' then
    select string_agg(distinct name, ',' order by name), count(distinct name) into names, name_count
    from jsonb_array_elements_text(meta -> 'limits') as name
    where length(name) <= 100 and name ~ '^[A-Za-z0-9_.-]+$';
    if name_count > 10 then
      names := '*too-many*';
    end if;
  end if;
  if paths is null and names is null then
    return null;
  end if;
  if paths is not null then
    select jsonb_agg(
      case path ->> 0
        when 'worker' then to_jsonb(worker)
        when 'args' then args #> array(select jsonb_array_elements_text(path - 0))
        when 'meta' then meta #> array(select jsonb_array_elements_text(path - 0))
      end
      order by position
    )
    into parts
    from jsonb_array_elements(paths) with ordinality as given(path, position);
  end if;
  return coalesce(mark || right(md5(cast(parts as text)), 32 - length(mark)), '')
    || coalesce(' ' || names, '');
end $$;

-- The same by what is stored of the queue's partitions.
create or replace function {prefix}.oban_lane_of(
  in_queue text, worker text, args jsonb, meta jsonb
) returns text language plpgsql stable as $$
declare
  partition record;
begin
  select paths, mark into partition from {prefix}.oban_partitions where queue = in_queue;
  if (not found or partition.paths is null) and meta -> 'limits' is null then
    return null;
  end if;
  return {prefix}.oban_lane(partition.paths, partition.mark, worker, args, meta);
end $$;

-- The shared limits that stand in a lane.
create or replace function {prefix}.oban_lane_limits(lane text)
returns text[] language sql immutable as $$
  select string_to_array(nullif(split_part(lane, ' ', 2), ''), ',')
$$;

-- How much of a rate a job takes. Anything may stand in meta.
create or replace function {prefix}.oban_weight(meta jsonb)
returns numeric language sql immutable as $$
  select case when jsonb_typeof(meta -> 'weight') = 'number'
    then greatest(1, ceil(cast(meta ->> 'weight' as numeric))) else 1
  end
$$;

-- What was started, by spans of the period that holds now; where it was another one, by the later
-- side of what a span became, but not ahead of now.
create or replace function {prefix}.oban_spent(
  spent jsonb, before float8, period float8, now_span bigint
)
returns table (span bigint, weight bigint) language sql immutable as $$
  select
    case
      when before is null or before = period then cast(key as bigint)
      else least(now_span, cast(floor((cast(key as bigint) + 1) * before / period) as bigint))
    end,
    cast(value as bigint)
  from jsonb_each_text(coalesce(spent, '{}'))
$$;

-- The lanes of a queue with available jobs, up to `most` of them behind `from_lane`. One after the
-- other, each by the index, so that it does not matter how many jobs wait in one.
create or replace function {prefix}.oban_waiting_lanes(in_queue text, from_lane text, most integer)
returns text[] language plpgsql volatile
set enable_seqscan = off
set jit = off
as $$
begin
  return array(
    with recursive walk as (
      (
        select job.lane from {prefix}.oban_jobs as job
        where job.state = 'available' and job.attempt < job.max_attempts
          and job.queue = in_queue and job.lane > from_lane
        order by job.lane
        limit 1
      )
      union all
      select (
        select job.lane from {prefix}.oban_jobs as job
        where job.state = 'available' and job.attempt < job.max_attempts
          and job.queue = in_queue and job.lane > walk.lane
        order by job.lane
        limit 1
      )
      from walk
      where walk.lane is not null
    )
    select lane from walk where lane is not null limit most
  );
end $$;

-- Claims up to `demand` jobs of a queue, as many as its limits leave room for: `slots` that run at
-- once, and `allowed` weight that starts within `period` seconds; null is no limit. These hold for the
-- queue, or for each of its partitions; shared limits stand in their limiter's row. Of the lanes with
-- available jobs it looks at up to `most_lanes` behind `from_lane`.
--
-- Whoever claims holds the limiters of the queue and of the shared limits that the jobs name, in the
-- order of their names. It counts after that, each statement of this volatile function seeing what is
-- committed by then; what the caller has acknowledged before, in `freed`, has made room.
--
-- The rate is kept by `spans` of the period, as what was started in each. A span counts until it is
-- past with certainty, and a little longer, in which what was claimed has started: so no period,
-- wherever it begins, sees more starts than are allowed.
--
-- `freed` lists what was acknowledged: for each its lane, and where it reported back-pressure the
-- seconds and, if it named one, the limit. Who makes room that somebody waits for tells the nodes.
-- Returns a row for each claimed job, and a last one without: in how many seconds to try again where
-- there may be more by then, the lane to go on behind where there were too many, and shared limits that
-- nobody has defined, for which the jobs that name them wait. Where nothing could be claimed because
-- of shared limits that the first jobs are too heavy for, it names these limits: given as `skipped`
-- their jobs are passed over, and others keep nobody waiting. And whether any shared rate is passed.
create or replace function {prefix}.oban_claim_limited(
  in_queue text, in_node text, in_uuid text, demand integer, slots integer, allowed bigint,
  period float8, spans integer, most_lanes integer, from_lane text, skipped text[], freed jsonb,
  insert_channel text
) returns table (
  again_in float8, last_lane text, unknown_limits text[], refusing text[], is_rated boolean,
  id bigint, worker text, attempt integer,
  max_attempts integer, priority integer, args text, meta text, errors text, tags text[],
  inserted float8, scheduled float8, attempted float8, completed float8, cancelled float8,
  discarded float8
)
language plpgsql volatile
-- The planner knows none of the lists, and where it guesses they are long it reads too much. Only the
-- plain scan of an index remembers which of its entries are dead.
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  own constant text := 'queue ' || in_queue;
  has_own constant boolean := slots is not null or allowed is not null;
  is_partitioned constant boolean := exists (
    select from {prefix}.oban_partitions as partition
    where partition.queue = in_queue and partition.paths is not null
  );
  lanes text[] := '{}';
  shared text[];
begin
  if demand > 0 and current_setting('transaction_isolation') <> 'read committed' then
    raise 'limits need the isolation level read committed, which is not the default of this database'
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  if demand > 0 then
    lanes := {prefix}.oban_waiting_lanes(in_queue, from_lane, most_lanes);
  end if;
  shared := array(
    select distinct unnest({prefix}.oban_lane_limits(lane))
    from (
      select unnest(lanes) as lane
      union all
      select each ->> 0 from jsonb_array_elements(freed) as each
    ) as both_of_them
    union
    select each ->> 2 from jsonb_array_elements(freed) as each where each ->> 2 is not null
  );
  if has_own then
    insert into {prefix}.oban_limiters (name) values (own) on conflict do nothing;
  end if;
  perform from {prefix}.oban_limiters as limiter
  where limiter.name = any(array(select 'limit ' || name from unnest(shared) as name))
    or (has_own and limiter.name = own)
  order by limiter.name
  for update;

  -- Back-pressure, on the limit that is named, else on those that the job passes.
  if exists (select from jsonb_array_elements(freed) as each where each ->> 1 is not null) then
    insert into {prefix}.oban_limiters as limiter (name, resting_until, expires_at)
    select
      slowed.name, clock_timestamp() + max(slowed.seconds) * interval '1 second',
      case when starts_with(slowed.name, 'lane ')
        then clock_timestamp() + (max(slowed.seconds) + coalesce(period, 0) * 2) * interval '1 second'
      end
    from (
      select
        unnest(case
          when each ->> 2 is not null then array['limit ' || (each ->> 2)]
          when {prefix}.oban_lane_limits(each ->> 0) is not null then array(
            select 'limit ' || name from unnest({prefix}.oban_lane_limits(each ->> 0)) as name
          )
          when not has_own then cast('{}' as text[])
          when is_partitioned then array['lane ' || left(each ->> 0, 32) || ' ' || in_queue]
          else array[own]
        end) as name,
        cast(each ->> 1 as float8) as seconds
      from jsonb_array_elements(freed) as each
      where each ->> 1 is not null
    ) as slowed
    where slowed.name is not null
    group by slowed.name
    order by slowed.name
    on conflict (name) do update set
      resting_until = greatest(limiter.resting_until, excluded.resting_until),
      expires_at = greatest(limiter.expires_at, excluded.expires_at);
  end if;

  return query
  with open as materialized (
    select lane from unnest(lanes) as lane
    union all
    select '' where demand > 0 and not is_partitioned
  ), gate as materialized (
    select
      lane,
      case
        when is_partitioned then 'lane ' || left(lane, 32) || ' ' || in_queue
        else own
      end as name
    from open
    where has_own
    union all
    select lane, 'limit ' || unnest({prefix}.oban_lane_limits(lane)) from open
  ), bound as materialized (
    select
      every.name, limiter.spent, limiter.spent_period as before, limiter.resting_until,
      limiter.awaited_by,
      case
        when not starts_with(every.name, 'limit ') then slots
        when limiter.options is null and limiter.scaled is null then 0
        else cast(coalesce(limiter.scaled, limiter.options) ->> 'global_limit' as integer)
      end as slots,
      case
        when not starts_with(every.name, 'limit ') then allowed
        else cast(coalesce(limiter.scaled, limiter.options) -> 'rate_limit' ->> 'allowed' as bigint)
      end as allowed,
      case
        when not starts_with(every.name, 'limit ') then period
        else cast(coalesce(limiter.scaled, limiter.options) -> 'rate_limit' ->> 'period' as float8)
      end as period,
      starts_with(every.name, 'limit ')
        and limiter.options is null and limiter.scaled is null as is_unknown
    from (
      select name from gate
      union
      select 'limit ' || name from unnest(shared) as name
      union
      select own where has_own
    ) as every
    left join {prefix}.oban_limiters as limiter on limiter.name = every.name
  ), running as materialized (
    select name, count(*) as job_count
    from (
      select case
        when is_partitioned then 'lane ' || left(job.lane, 32) || ' ' || in_queue
        else own
      end as name
      from {prefix}.oban_jobs as job
      where slots is not null
        and job.attempted_by[2] = any(array(
          select cast(owner.uuid as text) from {prefix}.oban_owners as owner
          where owner.queue = in_queue
        ))
        and (job.state = 'executing' or job.stopping_at is not null)
      union all
      select 'limit ' || unnest({prefix}.oban_lane_limits(job.lane))
      from {prefix}.oban_jobs as job
      where shared <> '{}' and job.lane is not null
        and (job.state = 'executing' or job.stopping_at is not null)
    ) as each
    group by name
  ), room as materialized (
    select
      bound.name, bound.allowed, bound.is_unknown, bound.awaited_by, now.span as now_span,
      bound.spent, bound.before, bound.period, now.span - spans - now.slack as past_span,
      case when bound.slots is not null
        then greatest(0, bound.slots - coalesce(running.job_count, 0))
      end as slots_left,
      bound.allowed - coalesce(used.weight, 0) as weight_left,
      coalesce(bound.resting_until > clock_timestamp(), false) as is_resting,
      case
        when bound.resting_until > clock_timestamp()
        then cast(extract(epoch from bound.resting_until) as float8) - now.at
        else (coalesce(used.since, now.span) + spans + now.slack + 1) * bound.period / spans
          - now.at
      end as reopens_in
    from bound
    cross join lateral (
      select
        at, cast(floor(at * spans / bound.period) as bigint) as span,
        -- At least 40 ms from a claim to the start.
        cast(greatest(2, ceil(0.04 * spans / bound.period)) as bigint) as slack
      from (select cast(extract(epoch from clock_timestamp()) as float8) as at) as clock
    ) as now
    left join running on running.name = bound.name
    left join lateral (
      -- What lies ahead was written before somebody has set the clock back.
      select sum(each.weight) as weight, min(each.span) as since
      from {prefix}.oban_spent(
        bound.spent, bound.before, bound.period, now.span
      ) as each
      where bound.allowed is not null
        and each.span between now.span - spans - now.slack and now.span + 1
    ) as used on true
  ), passable as materialized (
    select
      open.lane,
      cast(least(demand, min(room.slots_left), min(room.weight_left)) as integer) as most
    from open
    left join gate on gate.lane = open.lane
    left join room on room.name = gate.name
    group by open.lane
    having not coalesce(bool_or(room.is_resting or room.name = any(skipped)), false)
      and coalesce(min(room.slots_left), 1) > 0
      and coalesce(min(room.weight_left), 1) > 0
  ), share as materialized (
    -- Of each lane the first few, so that what is looked at is in proportion to what is claimed.
    select greatest(1, cast(ceil(demand * 2.0 / greatest(1, count(*))) as integer)) as most
    from passable
  ), candidate as materialized (
    select
      passable.lane, first.place, first.priority, first.scheduled_at, first.id, first.weight
    from passable
    cross join share
    -- Those with a lane and those without are found by an index of their own.
    cross join lateral (
      (
        select
          job.ctid as place, job.priority, job.scheduled_at, job.id,
          {prefix}.oban_weight(job.meta) as weight
        from {prefix}.oban_jobs as job
        where passable.lane <> ''
          and job.state = 'available' and job.attempt < job.max_attempts
          and job.queue = in_queue and job.lane = passable.lane
        order by job.priority, job.scheduled_at, job.id
        limit least(passable.most, share.most)
      )
      union all
      (
        select
          job.ctid as place, job.priority, job.scheduled_at, job.id,
          {prefix}.oban_weight(job.meta) as weight
        from {prefix}.oban_jobs as job
        where passable.lane = ''
          and job.state = 'available' and job.attempt < job.max_attempts
          and job.queue = in_queue and job.lane is null
        order by job.priority, job.scheduled_at, job.id
        limit least(passable.most, share.most)
      )
    ) as first
  ), passing as materialized (
    -- What comes first takes the room of each limit it passes, whether it gets through or not: so a
    -- heavy job waits for all of its weight, and lighter ones do not overtake it.
    select
      candidate.place, room.name,
      row_number() over taken as job_count,
      sum(least(candidate.weight, room.allowed)) over taken as weight,
      room.slots_left, room.weight_left
    from candidate
    join gate on gate.lane = candidate.lane
    join room on room.name = gate.name
    window taken as (
      partition by room.name order by candidate.priority, candidate.scheduled_at, candidate.id
      rows unbounded preceding
    )
  ), refused as materialized (
    select place, name, weight > weight_left as is_rate from passing
    where job_count > slots_left or weight > weight_left
  ), chosen as materialized (
    select candidate.place from candidate
    where candidate.place not in (select place from refused)
      and exists (
        select from {prefix}.oban_owners as owner where owner.uuid = cast(in_uuid as uuid)
      )
    order by candidate.priority, candidate.scheduled_at, candidate.id
    limit demand
  ), locked as materialized (
    select job.ctid as place from {prefix}.oban_jobs as job
    where job.ctid = any(array(select place from chosen))
      and job.state = 'available' and job.queue = in_queue
    for update skip locked
  ), claimed as (
    update {prefix}.oban_jobs as job
    set
      state = 'executing',
      attempt = job.attempt + 1,
      attempted_at = timezone('UTC', statement_timestamp()),
      attempted_by = array[in_node, in_uuid]
    where job.ctid = any(array(select place from locked))
    returning
      coalesce(job.lane, '') as lane, {prefix}.oban_weight(job.meta) as weight,
      job.id, job.worker, cast(job.attempt as integer) as attempt,
      cast(job.max_attempts as integer) as max_attempts,
      cast(job.priority as integer) as priority, cast(job.args as text) as args,
      nullif(cast(job.meta as text), '{}') as meta,
      nullif(cast(to_jsonb(job.errors) as text), '[]') as errors, nullif(job.tags, '{}') as tags,
      date_part('epoch', job.inserted_at) as inserted,
      date_part('epoch', job.scheduled_at) as scheduled,
      date_part('epoch', job.attempted_at) as attempted,
      date_part('epoch', job.completed_at) as completed,
      date_part('epoch', job.cancelled_at) as cancelled,
      date_part('epoch', job.discarded_at) as discarded
  ), taken as materialized (
    select
      room.name, count(*) as job_count, sum(least(claimed.weight, room.allowed)) as weight
    from claimed
    join gate on gate.lane = claimed.lane
    join room on room.name = gate.name
    group by room.name
  ), result as materialized (
    select count(*) as job_count, count(*) < demand as is_short from locked
  ), waiting as materialized (
    -- Who waits for a limit, anew: this queue, where it would have claimed more, for others to end;
    -- and nobody who is told of the room that it leaves. For all partitions it is one.
    select room.name, array_append(array_remove(awaited_by, in_queue), in_queue) as awaited_by
    from room
    left join taken on taken.name = room.name
    where starts_with(room.name, 'limit ') and room.name in (select name from gate)
      and (select is_short from result) and not room.is_unknown
      and room.slots_left <= coalesce(taken.job_count, 0)
    union all
    select own, array[in_queue]
    where has_own and (select is_short from result) and exists (
      select from room
      left join taken on taken.name = room.name
      where not starts_with(room.name, 'limit ') and room.name in (select name from gate)
        and room.slots_left <= coalesce(taken.job_count, 0)
    )
    union all
    select room.name, '{}' from room
    left join taken on taken.name = room.name
    where starts_with(room.name, 'limit ') and room.awaited_by <> '{}'
      and room.slots_left > coalesce(taken.job_count, 0)
    union all
    select own, '{}'
    where has_own and freed <> '[]' and not (select is_short from result)
  ), told as materialized (
    select pg_notify(insert_channel, cast(json_build_object('queue', queue) as text))
    from (
      select distinct unnest(room.awaited_by) as queue
      from waiting
      join room on room.name = waiting.name
      where waiting.awaited_by = '{}'
    ) as each
    where queue <> in_queue or not (select is_short from result)
  ), noted as (
    insert into {prefix}.oban_limiters as limiter (name, spent, spent_period, awaited_by, expires_at)
    select
      room.name,
      case when room.allowed is not null and taken.weight > 0
        then (
          select jsonb_object_agg(span, weight)
          from (
            select span, sum(weight) as weight
            from (
              select each.span, each.weight
              from {prefix}.oban_spent(
                room.spent, room.before, room.period, room.now_span
              ) as each
              union all
              select room.now_span, taken.weight
            ) as both_of_them
            where span between room.past_span and room.now_span + 1
            group by span
          ) as summed
        )
        else coalesce(room.spent, '{}')
      end,
      case when room.allowed is not null and taken.weight > 0 then room.period else room.before end,
      coalesce(waiting.awaited_by, room.awaited_by, '{}'),
      case when starts_with(room.name, 'lane ')
        then clock_timestamp() + period * 2 * interval '1 second'
      end
    from room
    left join taken on taken.name = room.name
    left join waiting on waiting.name = room.name
    where (room.allowed is not null and taken.weight > 0)
      or (waiting.awaited_by is not null and waiting.awaited_by <> coalesce(room.awaited_by, '{}'))
    on conflict (name) do update set
      awaited_by = excluded.awaited_by,
      expires_at = greatest(limiter.expires_at, excluded.expires_at),
      spent = excluded.spent,
      spent_period = excluded.spent_period
    returning limiter.name
  )
  select
    cast(null as float8), cast(null as text), cast(null as text[]), cast(null as text[]),
    cast(null as boolean), claimed.id, claimed.worker,
    claimed.attempt, claimed.max_attempts, claimed.priority, claimed.args, claimed.meta,
    claimed.errors, claimed.tags, claimed.inserted, claimed.scheduled, claimed.attempted,
    claimed.completed, claimed.cancelled, claimed.discarded
  from claimed
  union all
  select
    case
      when not (select is_short from result) then null
      -- What was looked at was not all that there is, or took more room than it needed.
      when (select job_count from result) > 0 and (
        exists (select from refused)
        or exists (
          select from candidate join passable on passable.lane = candidate.lane, share
          where share.most < passable.most
          group by candidate.lane, share.most
          having count(*) >= share.most
        )
      )
      then 0
      when (select job_count from result) = 0
        and exists (select from refused where starts_with(name, 'limit '))
      then 0  -- without the lanes of these there may be room
      else (
        select min(greatest(room.reopens_in, 0.001)) from room
        left join taken on taken.name = room.name
        where room.name in (select name from gate)
          and (
            room.is_resting
            or room.name = any(skipped)
            or room.weight_left <= coalesce(taken.weight, 0)
            or room.name in (select name from refused where is_rate)
          )
      )
    end,
    case when cardinality(lanes) >= most_lanes then lanes[cardinality(lanes)] end,
    array(select substr(name, 7) from room where is_unknown and name in (select name from gate)),
    case when (select job_count from result) = 0 then array(
      select distinct name from refused where starts_with(name, 'limit ')
    ) else '{}' end,
    exists (
      select from room
      where allowed is not null and starts_with(name, 'limit ') and name in (select name from gate)
    ),
    null, null, null, null, null, null, null, null, null, null, null, null, null, null, null
  from (select count(*) from told) as told, (select count(*) from noted) as noted;
end $$;
