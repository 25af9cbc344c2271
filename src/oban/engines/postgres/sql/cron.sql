-- name: open_slots
-- Up to which slot the entries of the JSON list :entries were seen to, by the Oban of :name. One that
-- is new, or is read otherwise than before, has no past: it begins at :slot, or else now.
with given as materialized (
  select * from json_to_recordset(cast(:entries as json)) as given(
    entry text, signature text, slot float8
  )
), opened as (
  insert into {prefix}.oban_cron_slots as known (name, entry, signature, slot)
  select
    cast(:name as text), entry, signature,
    coalesce(to_timestamp(slot), date_trunc('minute', statement_timestamp()))
  from given
  where not exists (
    select from {prefix}.oban_cron_slots as before
    where before.name = cast(:name as text) and before.entry = given.entry
      and before.signature = given.signature
  )
  order by entry
  on conflict (name, entry) do update set signature = excluded.signature, slot = excluded.slot
  where known.signature <> excluded.signature
  returning known.entry, known.slot
)
select entry, cast(extract(epoch from slot) as float8) as slot from opened
union all
select before.entry, cast(extract(epoch from before.slot) as float8)
from {prefix}.oban_cron_slots as before
join given using (entry, signature)
where before.name = cast(:name as text)

-- name: take_slots
-- Moves each entry of the JSON list :slots forward from the slot it was read at; one that another
-- leader has moved meanwhile is left alone. Returns the entries that were moved, whether the last job of
-- each is still to finish, and whether it is paused.
with wanted as materialized (
  select * from json_to_recordset(cast(:slots as json)) as wanted(
    entry text, before float8, slot float8
  )
), locked as materialized (
  select known.entry, known.job_id, known.paused_at
  from wanted
  join {prefix}.oban_cron_slots as known using (entry)
  where known.name = cast(:name as text)
    and cast(extract(epoch from known.slot) as float8) = wanted.before
  order by known.entry
  for update of known
), moved as (
  update {prefix}.oban_cron_slots as known
  set slot = to_timestamp(wanted.slot)
  from wanted
  where known.name = cast(:name as text) and known.entry = wanted.entry
    and known.entry in (select entry from locked)
  returning known.entry
)
select
  moved.entry,
  coalesce((
    select job.state in ('available', 'scheduled', 'executing', 'retryable', 'suspended')
      or job.stopping_at is not null
    from {prefix}.oban_jobs as job
    where job.id = locked.job_id
  ), false) as busy,
  locked.paused_at is not null as is_paused
from moved join locked using (entry)

-- name: note_slot_jobs
-- Notes with the entries in the JSON list :jobs which job was the last, and for which slot.
update {prefix}.oban_cron_slots as known
set job_id = job.id, job_slot = to_timestamp(job.slot)
from json_to_recordset(cast(:jobs as json)) as job(entry text, id bigint, slot float8)
where known.name = cast(:name as text) and known.entry = job.entry
returning known.entry

-- name: list_slots
-- The cron entries that the Oban of :name was ever seen to have, each with its last job's slot and id.
select
  entry, cast(extract(epoch from slot) as float8) as slot,
  cast(extract(epoch from job_slot) as float8) as job_slot, job_id, signature,
  cast(extract(epoch from paused_at) as float8) as paused_at
from {prefix}.oban_cron_slots
where name = cast(:name as text)
order by entry

-- name: pause_entry
-- Lets the slots of an entry pass without a job, or no longer. Returns whether there is such an entry.
update {prefix}.oban_cron_slots
set paused_at = case
  when cast(:paused as boolean) then coalesce(paused_at, statement_timestamp())
end
where name = cast(:name as text) and entry = cast(:entry as text)
returning entry
