-- Cron entries that somebody has paused: their slots pass without a job.
-- transaction: yes

alter table {prefix}.oban_cron_slots add column if not exists paused_at timestamptz;
