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
