-- Who leads. Logged, so that a crash of the database makes no second leader; oban_leaders, which is
-- shared with the other packages, only mirrors it.
-- transaction: yes

create table if not exists {prefix}.oban_leases (
  name text primary key,
  uuid uuid not null,
  node text not null,
  epoch bigint not null,
  elected_at timestamptz not null,
  expires_at timestamptz not null
);
