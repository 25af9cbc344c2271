-- Where the code of running jobs was when somebody asked for it, for a minute.
-- transaction: yes

create unlogged table if not exists {prefix}.oban_stacks (
  job_id bigint primary key,
  node text not null,
  told_at timestamptz not null,
  stack text not null
);
