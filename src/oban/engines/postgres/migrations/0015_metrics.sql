-- Metrics: how many jobs have ended, and how long attempts took and waited, by the minute, the hour
-- and the day. Of each span a bounded number of rows: see sql/metrics.sql.
-- transaction: yes

create table if not exists {prefix}.oban_metrics (
  grain text not null,
  -- Where the span begins.
  at timestamptz not null,
  queue text not null,
  worker text not null,
  -- Empty where no node had the job.
  node text not null,
  state text not null,
  -- Jobs, counted in oban_jobs.
  finished bigint not null default 0,
  -- Attempts, as their node tells: how many fell into each bin of a sketch.
  exec jsonb,
  wait jsonb,
  primary key (grain, at, queue, worker, node, state)
) with (fillfactor = 70);

-- How far they are: one row, made by who counts first. Whoever moves it locks it.
create table if not exists {prefix}.oban_metrics_mark (
  id boolean primary key default true check (id),
  -- The jobs that ended up to this time are counted.
  counted_to timestamptz not null,
  -- The hours and days before these are made of the minutes and hours in them.
  hours_to timestamptz not null,
  days_to timestamptz not null,
  looked_at timestamptz not null
);

create or replace function {prefix}.oban_merged_bins(one jsonb, other jsonb)
returns jsonb language sql immutable as $$
  select case
    when one is null then other
    when other is null then one
    else (
      select jsonb_object_agg(bin, times)
      from (
        select key as bin, sum(cast(value as bigint)) as times
        from (
          select key, value from jsonb_each_text(one)
          union all
          select key, value from jsonb_each_text(other)
        ) as both_of_them
        group by key
      ) as merged
    )
  end
$$;
