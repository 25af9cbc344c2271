-- What a running attempt needs to be stopped: set while a cancelled job's code still runs.
-- Adding a column without a default, or with a constant one, rewrites no table.
-- transaction: yes

alter table {prefix}.oban_jobs add column if not exists stopping_at timestamp;
alter table {prefix}.oban_jobs add column if not exists meta jsonb default '{}';
alter table {prefix}.oban_jobs add column if not exists tags text[] default '{}';
alter table {prefix}.oban_jobs add column if not exists cancelled_at timestamp;
alter table {prefix}.oban_jobs add column if not exists discarded_at timestamp;
