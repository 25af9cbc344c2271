-- Pruning: what has ended, by queue and time, so that the oldest is found without reading the rest.
-- transaction: no

create index concurrently if not exists oban_jobs_completed_index
  on {prefix}.oban_jobs (queue, completed_at)
  where state = 'completed';

create index concurrently if not exists oban_jobs_cancelled_index
  on {prefix}.oban_jobs (queue, cancelled_at)
  where state = 'cancelled';

create index concurrently if not exists oban_jobs_discarded_index
  on {prefix}.oban_jobs (queue, discarded_at)
  where state = 'discarded';
