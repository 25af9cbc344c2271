-- Partial indexes: a claim, a stage and a rescue each look at the jobs they are about and at nothing
-- else, whatever the size of the history.
-- transaction: no

-- Claiming: available jobs of a queue in the order they run.
create index concurrently if not exists oban_jobs_available_index
  on {prefix}.oban_jobs (queue, priority, scheduled_at, id)
  where state = 'available' and attempt < max_attempts;

-- Discarding: available jobs that have no attempt left, which nobody claims. Nearly always empty.
create index concurrently if not exists oban_jobs_exhausted_index
  on {prefix}.oban_jobs (queue, id)
  where state = 'available' and attempt >= max_attempts;

-- Staging: what becomes due, soonest first.
create index concurrently if not exists oban_jobs_due_index
  on {prefix}.oban_jobs (scheduled_at, id)
  where state in ('scheduled', 'retryable');

-- Reconciling and rescuing: what a producer runs, or is stopping.
create index concurrently if not exists oban_jobs_running_index
  on {prefix}.oban_jobs ((attempted_by[2]))
  where state = 'executing' or stopping_at is not null;
