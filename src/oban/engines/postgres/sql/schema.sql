-- name: schema_objects
-- What stands beside the numbered migrations. The comment on oban_jobs.id is the mark that 0001 puts
-- on a table that it made itself.
select
  exists (
    select from pg_attribute
    where attrelid = jobs.oid and attname = 'id'
      and col_description(jobs.oid, attnum) = 'made by Oban for Python'
  ) as made_here,
  to_regclass(:peers_table) is not null as peers_exist,
  exists (
    select from pg_trigger where tgrelid = jobs.oid and tgname = 'oban_notify_inserted'
  ) as trigger_exists,
  exists (
    select from pg_index
    where indrelid = jobs.oid and indisvalid and indpred is null
      and array(
        select attname from unnest(indkey) with ordinality as key(attnum, place)
        join pg_attribute using (attnum)
        where attrelid = jobs.oid
        order by place
      ) = cast(array['state', 'queue', 'priority', 'scheduled_at', 'id'] as name[])
  ) as published_index_exists,
  obj_description(jobs.oid, 'pg_class') as comment
from (select cast(to_regclass(:jobs_table) as oid) as oid) as jobs

-- name: take_migration_lock
-- Held by the transaction. It is tried and not waited for: a session that waits keeps a snapshot, and
-- CREATE INDEX CONCURRENTLY, run by the holder, would wait for that.
select pg_try_advisory_xact_lock(hashtextextended(:lock_name, 0)) as taken

-- name: migration_lock_holders
-- The session that the others wait for, and since when its transaction runs.
select
  session.pid,
  coalesce(nullif(session.application_name, ''), session.backend_type) as application,
  session.usename, session.state,
  cast(extract(epoch from clock_timestamp() - session.xact_start) as float8) as seconds
from pg_locks as held join pg_stat_activity as session using (pid)
where held.locktype = 'advisory' and held.granted and held.objsubid = 1
  and held.database = (select oid from pg_database where datname = current_database())
  and (cast(held.classid as bigint) << 32) | cast(held.objid as bigint)
    = hashtextextended(:lock_name, 0)

-- name: lock_holders
-- The sessions that may be in the way of a migration, the oldest transaction first: those that hold
-- a lock on something in the schema, and those whose snapshot an index waits for.
select
  session.pid,
  coalesce(nullif(session.application_name, ''), session.backend_type) as application,
  session.usename, session.state,
  cast(extract(epoch from clock_timestamp() - session.xact_start) as float8) as seconds
from pg_stat_activity as session
where session.pid <> pg_backend_pid() and session.datname = current_database()
  and (
    session.backend_xmin is not null
    or session.pid in (
      select held.pid from pg_locks as held join pg_class on pg_class.oid = held.relation
      where held.granted and pg_class.relnamespace = (
        select oid from pg_namespace where nspname = cast(:prefix as text)
      )
    )
  )
order by session.xact_start nulls last
limit 3

-- name: invalid_index
-- Whether an index of this name was left behind unfinished.
select true as invalid from pg_index
where indexrelid = to_regclass(:index_name) and not indisvalid
