-- Up to which slot each cron entry was seen to. A slot is run by whoever moves it forward, in the
-- transaction that inserts its job, and so once.
-- transaction: yes

create table if not exists {prefix}.oban_cron_slots (
  name text not null,
  entry text not null,
  signature text not null,
  slot timestamptz not null,
  job_slot timestamptz,
  job_id bigint,
  primary key (name, entry)
);
