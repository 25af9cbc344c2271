-- The states that older installations of the other packages lack.
-- transaction: no

alter type {prefix}.oban_job_state add value if not exists 'suspended';
alter type {prefix}.oban_job_state add value if not exists 'cancelled';
