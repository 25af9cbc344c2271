-- Leave the heartbeats to themselves for longer: each is a new version of a short row, of which the
-- next ones reuse the room. Vacuum came for them each minute, also where a node had nothing to do. What
-- somebody has set himself stays as it is, and so does a table that is another's.
-- transaction: yes

do $$
declare
  name text;
begin
  foreach name in array array['oban_producers', 'oban_leaders', 'oban_leases', 'oban_metrics_mark'] loop
    if not exists (
      select from pg_class, unnest(reloptions) as option
      where oid = to_regclass(quote_ident({prefix_text}) || '.' || name)
        and starts_with(option, 'autovacuum_')
    ) then
      begin
        execute 'alter table ' || quote_ident({prefix_text}) || '.' || name || ' set ('
          || 'autovacuum_vacuum_threshold = 1000, autovacuum_analyze_threshold = 5000)';
      exception when insufficient_privilege then
        null;
      end;
    end if;
  end loop;
end $$;
