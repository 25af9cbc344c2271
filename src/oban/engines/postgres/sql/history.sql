-- part: surplus(state)
-- The jobs of each queue that ended as {state} and need not be kept, the oldest first; one whose code is
-- being stopped has not ended. Thousands may have ended in one moment, so the first that is surplus is
-- known by its time and its id (`+ 0` keeps the planner from the primary key).
{state} as materialized (
  select old.id
  from rule
  left join lateral (
    select first.ended_at, (
      select twin.id from {prefix}.oban_jobs as twin
      where twin.state = '{state}' and twin.queue = rule.queue
        and twin.{state}_at = first.ended_at
      order by twin.id + 0 desc
      offset rule.max_count - first.newer_count limit 1
    ) as id
    from (
      select
        kept.{state}_at as ended_at,
        rank() over (order by kept.{state}_at desc) - 1 as newer_count
      from {prefix}.oban_jobs as kept
      where kept.state = '{state}' and kept.queue = rule.queue and rule.max_count is not null
      order by kept.{state}_at desc
      offset rule.max_count limit 1
    ) as first
  ) as surplus on true
  cross join lateral (
    select job.id from {prefix}.oban_jobs as job
    where job.state = '{state}' and job.queue = rule.queue
      and ('{state}' <> 'cancelled' or job.stopping_at is null)
      and job.{state}_at <= greatest(rule.cutoff, surplus.ended_at)
      and job.{state}_at <= rule.counted_to
      and (
        job.{state}_at <= rule.cutoff
        or job.{state}_at < surplus.ended_at
        or (job.{state}_at = surplus.ended_at and job.id <= surplus.id)
      )
      and job.id <> all(cast(:spared as bigint[]))
      and (cast(:ids as bigint[]) is null or job.id = any(cast(:ids as bigint[])))
    order by job.{state}_at
    limit cast(:limit as int)
    for update skip locked
  ) as old
  where rule.state = '{state}'
)

-- name: prune_jobs
-- Deletes up to :limit finished jobs of our queues, the oldest of each queue and state first: those
-- that ended more than their max_age seconds ago, and those beyond the newest max_count. The rules in
-- the JSON list :rules are for one queue, or, without one, for all that have none of their own. None
-- of :spared, and only :ids where those are given; and none that metrics have not counted yet, where they
-- are being counted, or soon will be, :counts. Rows that another pruner holds are passed over.
-- Returns how many; with :dry, which it would be. A partial index is only taken for a state that stands
-- in the statement. Indexes: oban_jobs_completed_index, oban_jobs_cancelled_index,
-- oban_jobs_discarded_index.
with given as materialized (
  select * from json_to_recordset(cast(:rules as json)) as given(
    queue text, state text, max_age float8, max_count bigint
  )
), rule as materialized (
  select distinct on (owned.queue, given.state)
    owned.queue, given.state, given.max_count,
    timezone('UTC', statement_timestamp()) - given.max_age * interval '1 second' as cutoff,
    timezone('UTC', coalesce((
      select greatest(counted_to, statement_timestamp() - interval '10 minutes')
      from {prefix}.oban_metrics_mark
      where looked_at > statement_timestamp() - interval '10 minutes'
    ), case
      when cast(:counts as boolean) then statement_timestamp() - interval '10 minutes'
      else 'infinity'
    end)) as counted_to
  from {prefix}.oban_owned_queues as owned
  join given on given.queue = owned.queue or given.queue is null
  order by owned.queue, given.state, given.queue nulls last
), {surplus(completed)}, {surplus(cancelled)}, {surplus(discarded)},
doomed as materialized (
  select id from completed
  union all select id from cancelled
  union all select id from discarded
  limit cast(:limit as int)
), pruned as (
  delete from {prefix}.oban_jobs
  where not cast(:dry as boolean) and id = any(array(select id from doomed))
  returning id
)
select
  (select count(*) from pruned) as pruned_count,
  array(select id from doomed where cast(:dry as boolean)) as prunable
