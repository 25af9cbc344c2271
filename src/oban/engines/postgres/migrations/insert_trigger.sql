-- Optional: notify for available jobs inserted by anyone, plain SQL included. One notification per
-- queue and statement; PostgreSQL folds it with the identical one that our own inserts send.

create or replace function {prefix}.oban_notify_inserted() returns trigger language plpgsql as $$
begin
  perform pg_notify(
    tg_table_schema || '.oban_insert', cast(json_build_object('queue', queue) as text)
  )
  from (select distinct queue from inserted where state = 'available') as queues;
  return null;
end $$;

create or replace trigger oban_notify_inserted
  after insert on {prefix}.oban_jobs
  referencing new table as inserted
  for each statement execute function {prefix}.oban_notify_inserted();
