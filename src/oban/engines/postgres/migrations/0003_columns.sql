-- What a running attempt needs to be stopped: `stopping_at`, set while a cancelled job's code still
-- runs. The others are missing from old installations of the other packages.
-- transaction: yes

-- Adding columns without a default, or with a constant one, rewrites no table.
alter table {prefix}.oban_jobs
  add column if not exists stopping_at timestamp,
  add column if not exists meta jsonb default '{}',
  add column if not exists tags text[] default '{}',
  add column if not exists cancelled_at timestamp,
  add column if not exists discarded_at timestamp;
