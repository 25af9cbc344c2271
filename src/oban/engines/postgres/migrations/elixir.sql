-- Optional: what nodes of Oban for Elixir look for. Its own migrations fail on tables that they did
-- not make, and it takes the comment for their version.

create unlogged table if not exists {prefix}.oban_peers (
  name text primary key,
  node text not null,
  started_at timestamp not null,
  expires_at timestamp not null
);

create index concurrently if not exists oban_jobs_state_queue_priority_scheduled_at_id_index
  on {prefix}.oban_jobs (state, queue, priority, scheduled_at, id);

do $$ begin
  if coalesce(
    obj_description(to_regclass(quote_ident({prefix_text}) || '.oban_jobs'), 'pg_class'), ''
  ) !~ '^[0-9]+$' then
    comment on table {prefix}.oban_jobs is '14';
  end if;
end $$;
