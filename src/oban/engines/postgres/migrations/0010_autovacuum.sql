-- Vacuum oftener and in longer strides than by default: each job leaves two dead versions of its row
-- behind, and where millions of finished jobs are kept a fifth of the table is long in coming. What
-- somebody has set himself stays as it is.
-- transaction: yes

do $$ begin
  if not exists (
    select from pg_class, unnest(reloptions) as option
    where oid = to_regclass(quote_ident({prefix_text}) || '.oban_jobs')
      and starts_with(option, 'autovacuum_')
  ) then
    alter table {prefix}.oban_jobs set (
      autovacuum_vacuum_scale_factor = 0.05,
      autovacuum_vacuum_threshold = 10000,
      autovacuum_vacuum_cost_limit = 2000
    );
  end if;
end $$;
