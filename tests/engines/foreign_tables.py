"""The tables that other packages make, as they look before anything of ours is added.

Written down from what is publicly known of them: types, nullability, enums and indexes are theirs,
the order of the columns differs from ours on purpose.
"""

from typing import Final

from oban import schema

#: An installation that Oban for Elixir made and that stands at its version 12.
ELIXIR: Final = """
create schema if not exists {schema};

create type {schema}.oban_job_state as enum (
  'available', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled'
);

create table {schema}.oban_jobs (
  id bigserial primary key,
  state {schema}.oban_job_state not null default 'available',
  queue text not null default 'default',
  worker text not null,
  args jsonb not null default '{}',
  errors jsonb[] not null default array[]::jsonb[],
  attempt integer not null default 0,
  max_attempts integer not null default 20,
  inserted_at timestamp not null default timezone('UTC', now()),
  scheduled_at timestamp not null default timezone('UTC', now()),
  attempted_at timestamp,
  completed_at timestamp,
  attempted_by text[],
  discarded_at timestamp,
  priority integer not null default 0,
  tags text[] default array[]::text[],
  meta jsonb default '{}',
  cancelled_at timestamp,
  constraint attempt_range check (attempt between 0 and max_attempts),
  constraint positive_max_attempts check (max_attempts > 0),
  constraint non_negative_priority check (priority >= 0),
  constraint queue_length check (char_length(queue) > 0 and char_length(queue) < 128),
  constraint worker_length check (char_length(worker) > 0 and char_length(worker) < 128)
);

create index oban_jobs_state_queue_priority_scheduled_at_id_index
  on {schema}.oban_jobs (state, queue, priority, scheduled_at, id);
create index oban_jobs_args_index on {schema}.oban_jobs using gin (args);
create index oban_jobs_meta_index on {schema}.oban_jobs using gin (meta);

create unlogged table {schema}.oban_peers (
  name text not null primary key,
  node text not null,
  started_at timestamp not null,
  expires_at timestamp not null
);

comment on table {schema}.oban_jobs is '12';
"""

#: An installation of the published package for Python.
PUBLISHED: Final = """
create schema if not exists {schema};

create type {schema}.oban_job_state as enum (
  'available', 'scheduled', 'suspended', 'executing', 'retryable', 'completed', 'discarded',
  'cancelled'
);

create table {schema}.oban_jobs (
  id bigserial primary key,
  state {schema}.oban_job_state not null default 'available',
  queue text not null default 'default',
  worker text not null,
  attempt smallint not null default 0,
  max_attempts smallint not null default 20,
  priority smallint not null default 0,
  args jsonb not null default '{}',
  meta jsonb default '{}',
  tags text[] default '{}',
  errors jsonb not null default '[]',
  attempted_by text[],
  inserted_at timestamp not null default timezone('UTC', now()),
  scheduled_at timestamp not null default timezone('UTC', now()),
  attempted_at timestamp,
  cancelled_at timestamp,
  completed_at timestamp,
  discarded_at timestamp,
  constraint attempt_range check (attempt between 0 and max_attempts),
  constraint positive_max_attempts check (max_attempts > 0),
  constraint non_negative_priority check (priority >= 0)
);

create index jobs_of_a_queue on {schema}.oban_jobs (state, queue, priority, scheduled_at, id);

create unlogged table {schema}.oban_leaders (
  name text primary key,
  node text not null,
  elected_at timestamp not null,
  expires_at timestamp not null
);

create unlogged table {schema}.oban_producers (
  uuid uuid primary key,
  name text not null,
  node text not null,
  queue text not null,
  meta jsonb not null default '{}',
  started_at timestamp not null default timezone('UTC', now()),
  updated_at timestamp not null default timezone('UTC', now())
);
"""

FOREIGN: Final = {"elixir": ELIXIR, "published": PUBLISHED}
#: The kinds of tables that every verb must work on.
KINDS: Final = ("own", *FOREIGN)


def tables_sql(kind: str, prefix: str = "public") -> str:
    """What a database of this kind holds before our migrations have seen it."""
    if kind == "own":
        return schema.install_sql(prefix)
    return FOREIGN[kind].replace("{schema}", f'"{prefix}"')
