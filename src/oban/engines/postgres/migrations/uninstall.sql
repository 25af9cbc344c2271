-- Takes away what we made. Where another package made oban_jobs it stays, with everything that
-- package made and may still use, and only what was added to it is removed. Nothing is dropped that
-- something else depends on: that is an error, and the transaction undoes the rest.

drop trigger if exists oban_notify_inserted on {prefix}.oban_jobs;

drop trigger if exists oban_unique_enter on {prefix}.oban_jobs;

drop trigger if exists oban_unique_leave on {prefix}.oban_jobs;

drop trigger if exists oban_unique_empty on {prefix}.oban_jobs;

drop function if exists
  {prefix}.oban_notify_inserted(), {prefix}.oban_unique_enter(), {prefix}.oban_unique_leave(),
  {prefix}.oban_unique_empty(),
  {prefix}.oban_unique_is_held(uuid, bigint, integer, float8, boolean),
  {prefix}.oban_unique_states(jsonb), {prefix}.oban_unique_bit({prefix}.oban_job_state),
  {prefix}.oban_running_count(text, bigint),
  {prefix}.oban_lane(jsonb, text, text, jsonb, jsonb),
  {prefix}.oban_lane_of(text, text, jsonb, jsonb), {prefix}.oban_lane_limits(text),
  {prefix}.oban_weight(jsonb), {prefix}.oban_spent(jsonb, float8, float8, bigint),
  {prefix}.oban_waiting_lanes(text, text, integer), {prefix}.oban_merged_bins(jsonb, jsonb),
  {prefix}.oban_claim_limited(
    text, text, text, integer, integer, bigint, float8, integer, integer, text, text[], jsonb,
    text
  );

do $$
declare
  jobs constant oid := to_regclass(quote_ident({prefix_text}) || '.oban_jobs');
begin
  if jobs is null then
    return;
  end if;
  if exists (
    select from pg_attribute
    where attrelid = jobs and attname = 'id'
      and col_description(jobs, attnum) = 'made by Oban for Python'
  ) then
    drop table {prefix}.oban_jobs;
    drop table if exists {prefix}.oban_leaders, {prefix}.oban_producers, {prefix}.oban_peers;
    drop type {prefix}.oban_job_state;
  else
    drop index if exists
      {prefix}.oban_jobs_available_index, {prefix}.oban_jobs_free_index,
      {prefix}.oban_jobs_lane_index, {prefix}.oban_jobs_running_lane_index,
      {prefix}.oban_jobs_exhausted_index,
      {prefix}.oban_jobs_due_index, {prefix}.oban_jobs_running_index,
      {prefix}.oban_jobs_completed_index, {prefix}.oban_jobs_cancelled_index,
      {prefix}.oban_jobs_discarded_index, {prefix}.oban_jobs_suspended_index;
    alter table {prefix}.oban_jobs drop column if exists stopping_at, drop column if exists lane;
    if (select reloptions from pg_class where oid = jobs) @> array[
      'autovacuum_vacuum_scale_factor=0.05', 'autovacuum_vacuum_threshold=10000',
      'autovacuum_vacuum_cost_limit=2000'
    ] then
      alter table {prefix}.oban_jobs reset (
        autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_limit
      );
    end if;
  end if;
end $$;

drop table if exists
  {prefix}.oban_owners, {prefix}.oban_owned_queues, {prefix}.oban_leases,
  {prefix}.oban_queue_intents, {prefix}.oban_cron_slots, {prefix}.oban_unique,
  {prefix}.oban_limiters, {prefix}.oban_partitions, {prefix}.oban_metrics,
  {prefix}.oban_metrics_mark, {prefix}.oban_stacks,
  {prefix}.oban_migrations;
