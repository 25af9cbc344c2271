-- Limits of queues over all nodes. A limiter's row is locked by every claim of its queue, so that two
-- never count at the same time; and it keeps how much was started of late. How many jobs run is
-- counted, not kept: then it is right after whatever has happened to a job or to a node.
-- transaction: yes

create table if not exists {prefix}.oban_limiters (
  name text primary key,
  -- The weight of the jobs that were started, by the number of a short span of time.
  spent jsonb not null default '{}',
  -- Whether a claim found no room: then who makes some tells the nodes.
  is_awaited boolean not null default false
);

-- How many jobs of a queue run on our nodes, those being stopped included. Volatile: so it counts what
-- is committed now, and not what was when the claim began that had to wait for its turn; `after` is
-- there to be evaluated first.
create or replace function {prefix}.oban_running_count(in_queue text, after bigint)
returns integer language plpgsql volatile as $$
begin
  return count(*) from {prefix}.oban_jobs as job
  where job.attempted_by[2] = any(array(
      select cast(owner.uuid as text) from {prefix}.oban_owners as owner
      where owner.queue = in_queue
    ))
    and (job.state = 'executing' or job.stopping_at is not null);
end $$;
