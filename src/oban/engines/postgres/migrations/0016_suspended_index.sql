-- Browsing: jobs that wait for others, without reading those that do not.
-- transaction: no

create index concurrently if not exists oban_jobs_suspended_index
  on {prefix}.oban_jobs (id)
  where state = 'suspended';
