-- name: ask_stack
-- Asks the nodes where the code of a job is. Returns when: what was told before is no answer.
select
  cast(extract(epoch from statement_timestamp()) as float8) as asked_at,
  pg_notify(
    :control_channel, cast(json_build_object('stack', cast(:job_id as bigint)) as text)
  ) as told

-- name: tell_stack
-- Keeps where the code of a job is, for whoever has asked, and forgets what was told before the last
-- minute.
with forgotten as (
  delete from {prefix}.oban_stacks
  where job_id in (
    select job_id from {prefix}.oban_stacks
    where told_at < statement_timestamp() - interval '1 minute' and job_id <> cast(:job_id as bigint)
    for update skip locked
  )
)
insert into {prefix}.oban_stacks as known (job_id, node, told_at, stack)
values (cast(:job_id as bigint), cast(:node as text), statement_timestamp(), cast(:stack as text))
on conflict (job_id) do update set
  node = excluded.node, told_at = excluded.told_at, stack = excluded.stack
returning known.job_id

-- name: told_stack
-- What was told of a job in the last minute. Index: the primary key.
select node, cast(extract(epoch from told_at) as float8) as told_at, stack
from {prefix}.oban_stacks
where job_id = cast(:job_id as bigint) and told_at > statement_timestamp() - interval '1 minute'
