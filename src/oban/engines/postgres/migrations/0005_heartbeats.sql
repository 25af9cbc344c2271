-- What a record of one of our producers says beside who it is: after how many seconds of silence it
-- may be taken for dead, and when it was last known to live, to the hour. Logged, so that both
-- survive a crash that empties oban_producers.
-- transaction: yes

alter table {prefix}.oban_owners
  add column if not exists max_age float8 not null default 10,
  add column if not exists seen_at timestamptz not null default now();
