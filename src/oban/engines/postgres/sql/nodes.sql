-- name: register_producer
-- Records that this producer, and its queue, are ours. Committed before its first claim.
with owned_queue as (
  insert into {prefix}.oban_owned_queues (queue) values (cast(:queue as text)) on conflict do nothing
)
insert into {prefix}.oban_owners (uuid, name, node, queue)
values (
  cast(cast(:uuid as text) as uuid), cast(:name as text), cast(:node as text), cast(:queue as text)
)
on conflict (uuid) do nothing
returning cast(uuid as text) as uuid

-- name: forget_producer
-- Takes the record away again, unless a job still names this producer as its running attempt.
-- Index: oban_jobs_running_index.
delete from {prefix}.oban_owners
where uuid = cast(cast(:uuid as text) as uuid)
  and not exists (
    select from {prefix}.oban_jobs
    where attempted_by[2] = cast(:uuid as text) and (state = 'executing' or stopping_at is not null)
  )
returning cast(uuid as text) as uuid
