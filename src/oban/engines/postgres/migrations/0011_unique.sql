-- Unique jobs: which job holds a key. Whoever inserts a job of that key takes it, unless the holder
-- counts as its like, and waits for another transaction that has just taken it, as with any unique
-- index. Nothing is done when a job moves out of the states in which it counts: that is asked of the
-- holder itself. A job that moves into one of them, moved by whomever, takes its key again.
-- transaction: yes

create table if not exists {prefix}.oban_unique (
  key uuid primary key,
  job_id bigint not null,
  -- Those of the job that took the key last: for an insert, which may ask for no others in a conflict,
  -- and for a job that moves, which does not know its period.
  states smallint not null,
  period float8,
  by_schedule boolean not null
);

-- The bit of a state in `states`; `uniq_bmp` in meta has their numbers.
create or replace function {prefix}.oban_unique_bit(state {prefix}.oban_job_state)
returns integer language sql immutable as $$
  select case state
    when 'scheduled' then 1
    when 'available' then 2
    when 'executing' then 4
    when 'retryable' then 8
    when 'completed' then 16
    when 'cancelled' then 32
    when 'discarded' then 64
    when 'suspended' then 128
    else 0
  end
$$;

-- Whether the holder of a key counts as the like of a job that has these states and this period. A job
-- whose code is still being stopped counts as one that runs. It must have the key: its id may be that
-- of another job by now, where somebody has emptied the table.
-- Volatile: so it reads what is committed now, and not what was when the statement began that had to
-- wait for the key.
create or replace function {prefix}.oban_unique_is_held(
  in_key uuid, holder bigint, in_states integer, within float8, by_schedule boolean
) returns boolean language plpgsql volatile as $$
begin
  return exists (
    select from {prefix}.oban_jobs as job
    where job.id = holder
      and job.meta ->> 'uniq_key' = replace(cast(in_key as text), '-', '')
      and (
        in_states & {prefix}.oban_unique_bit(job.state) <> 0
        or (in_states & 4 <> 0 and job.stopping_at is not null)
      )
      and (
        within is null
        or case when by_schedule then job.scheduled_at else job.inserted_at end
          > timezone('UTC', clock_timestamp()) - within * interval '1 second'
      )
  );
end $$;

-- The states in a job's meta, and none where somebody else's meta says something else.
create or replace function {prefix}.oban_unique_states(meta jsonb)
returns integer language sql immutable as $$
  select case
    when meta ->> 'uniq_key' ~ '^[0-9a-f]+$' and length(meta ->> 'uniq_key') = 32
    then cast((
      select coalesce(sum(1 << bit), 0) from generate_series(0, 7) as bit
      where meta -> 'uniq_bmp' @> to_jsonb(bit)
    ) as integer)
    else 0
  end
$$;

-- A job came to count again: it takes its key, or goes on without it. It never fails who has moved it,
-- and hardly waits: a key that another transaction has in its hands counts as taken, and only one that
-- is just being made is waited for, a few times in a transaction.
create or replace function {prefix}.oban_unique_enter() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '20ms'
as $$
declare
  in_key constant text := new.meta ->> 'uniq_key';
  in_states constant integer := {prefix}.oban_unique_states(new.meta);
  waits constant integer := coalesce(nullif(current_setting('oban.unique_waits', true), ''), '0');
  held record;
  taken boolean := false;
begin
  if tg_table_schema <> {prefix_text} or tg_table_name <> 'oban_jobs'
    or in_states & {prefix}.oban_unique_bit(new.state) = 0
    or in_states & {prefix}.oban_unique_bit(old.state) <> 0
  then
    return null;
  end if;
  select * into held from {prefix}.oban_unique
  where key = cast(in_key as uuid) for update skip locked;
  if found then
    taken := held.job_id = new.id or not {prefix}.oban_unique_is_held(
      held.key, held.job_id, in_states, held.period, held.by_schedule
    );
    if taken then
      update {prefix}.oban_unique set job_id = new.id where key = held.key;
    end if;
  elsif waits < 5
    and not exists (select from {prefix}.oban_unique where key = cast(in_key as uuid))
  then
    begin
      insert into {prefix}.oban_unique (key, job_id, states, by_schedule)
      values (cast(in_key as uuid), new.id, in_states, false)
      on conflict do nothing;
      taken := found;
    exception when lock_not_available or deadlock_detected then
      perform set_config('oban.unique_waits', cast(waits + 1 as text), true);
    end;
  end if;
  if not taken then
    update {prefix}.oban_jobs
    set meta = meta - 'uniq' - 'uniq_key' - 'uniq_bmp' || jsonb_build_object('uniq_lost', in_key)
    where id = new.id;
    perform pg_notify(
      tg_table_schema || '.oban_control', cast(json_build_object('unique_lost', new.id) as text)
    );
  end if;
  return null;
end $$;

create or replace trigger oban_unique_enter
  after update of state on {prefix}.oban_jobs
  for each row
  when (new.meta -> 'uniq_key' is not null and old.state is distinct from new.state)
  execute function {prefix}.oban_unique_enter();

-- What is deleted holds nothing. A key that somebody is about to take is left to him.
create or replace function {prefix}.oban_unique_leave() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_table_schema = {prefix_text} and tg_table_name = 'oban_jobs'
    and {prefix}.oban_unique_states(old.meta) <> 0
  then
    delete from {prefix}.oban_unique
    where key in (
      select key from {prefix}.oban_unique
      where key = cast(old.meta ->> 'uniq_key' as uuid) and job_id = old.id
      for update skip locked
    );
  end if;
  return null;
end $$;

create or replace trigger oban_unique_leave
  after delete on {prefix}.oban_jobs
  for each row
  when (old.meta -> 'uniq_key' is not null)
  execute function {prefix}.oban_unique_leave();

create or replace function {prefix}.oban_unique_empty() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_table_schema = {prefix_text} and tg_table_name = 'oban_jobs' then
    delete from {prefix}.oban_unique;
  end if;
  return null;
end $$;

create or replace trigger oban_unique_empty
  after truncate on {prefix}.oban_jobs
  for each statement execute function {prefix}.oban_unique_empty();

-- They have their owner's rights, and are for these triggers alone; a trigger fires without the right.
revoke execute on function
  {prefix}.oban_unique_enter(), {prefix}.oban_unique_leave(), {prefix}.oban_unique_empty()
from public;
