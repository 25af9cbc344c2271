-- Unique jobs: which job holds a key. Whoever inserts a job of that key takes it, unless the holder
-- counts as its like, and waits for another transaction that has just taken it, as with any unique
-- index. Nothing is done when a job moves out of the states in which it counts: that is asked of the
-- holder itself. A job that moves into one of them, moved by whomever, takes its key again.
-- transaction: yes

create table if not exists {prefix}.oban_unique (
  key uuid primary key,
  job_id bigint not null,
  -- Those of the last job that took the key; they come with it, to be asked for in a conflict.
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

-- Whether a job counts as the like of another that has these states and this period. A job whose
-- code is still being stopped counts as one that runs.
-- Volatile: so it reads what is committed now, and not what was when the statement began that had to
-- wait for the key.
create or replace function {prefix}.oban_unique_is_held(
  holder bigint, in_states integer, within float8, by_schedule boolean
) returns boolean language plpgsql volatile as $$
begin
  return exists (
    select from {prefix}.oban_jobs as job
    where job.id = holder
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

-- A job came to count again: it takes its key, or goes on without it. It never waits for long, and
-- never fails who has moved it.
create or replace function {prefix}.oban_unique_enter() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
declare
  states constant integer := {prefix}.oban_unique_states(new.meta);
  taken boolean := false;
begin
  if states & {prefix}.oban_unique_bit(new.state) = 0
    or states & {prefix}.oban_unique_bit(old.state) <> 0
  then
    return null;
  end if;
  begin
    insert into {prefix}.oban_unique as held (key, job_id, states, by_schedule)
    values (cast(new.meta ->> 'uniq_key' as uuid), new.id, states, false)
    on conflict (key) do update set job_id = excluded.job_id
    where held.job_id = excluded.job_id
      or not {prefix}.oban_unique_is_held(held.job_id, excluded.states, null, false);
    taken := found;
  exception when lock_not_available or deadlock_detected then
    taken := false;
  end;
  if not taken then
    update {prefix}.oban_jobs
    set meta = meta - 'uniq' - 'uniq_key' - 'uniq_bmp'
      || jsonb_build_object('uniq_lost', meta -> 'uniq_key')
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
  if {prefix}.oban_unique_states(old.meta) <> 0 then
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
