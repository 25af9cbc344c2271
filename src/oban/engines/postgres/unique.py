"""Inserting unique jobs, and finding the jobs that they are like."""

# What is called for each job has annotations too, which would be evaluated at each call.
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar, cast

from oban.engines.postgres.insert_rows import MAX_INSERT_JOBS, Row, as_stored, chunked, inserted_row
from oban.engines.postgres.rows import moment, read_job
from oban.engines.postgres.statements import PostgresOperation, Statement, Steps
from oban.engines.postgres.verbs import Verbs
from oban.errors import UniqueKeyBusy
from oban.fields import encode
from oban.job import Job
from oban.unique import Unique

T = TypeVar("T")

#: How often a job's like may be gone when it is looked for, and there again when it is inserted.
MAX_ROUNDS: Final = 10
#: Keys that a message names.
MAX_NAMED: Final = 3


class UniqueVerbs(Verbs):
    def insert_unique(self, jobs: Sequence[Job], *, notify: bool) -> PostgresOperation[list[Job]]:
        """Insert those that have no like; in the place of each other return the job it is like."""
        first = Round(jobs, range(len(jobs)))

        def steps() -> Steps[list[Job]]:
            inserted, conflicted = yield from self.one_of_each(first, notify=notify)
            return [
                conflicted[place] if place in conflicted else stored(job, *inserted[place])
                for place, job in enumerate(jobs)
            ]

        return inserting(steps, jobs)

    def pour_unique(self, jobs: Sequence[Job], *, notify: bool) -> PostgresOperation[int]:
        """The same, and only how many were inserted."""
        first = Round(jobs, range(len(jobs)))

        def steps() -> Steps[int]:
            inserted, _ = yield from self.one_of_each(first, notify=notify)
            return len(inserted)

        return inserting(steps, jobs)

    def one_of_each(self, round_: Round, *, notify: bool) -> Steps[tuple[Inserted, Conflicted]]:
        """Insert what has no like, and find the like of the rest.

        It may be gone when it is looked for, and be there again when the job is inserted then.
        """
        inserted: Inserted = {}
        conflicted: Conflicted = {}
        for _ in range(MAX_ROUNDS):
            for places, payload in round_.parts:
                rows = yield self.sql(
                    "insert_unique_jobs",
                    jobs=payload,
                    kinds=round_.kinds,
                    jobs_table=self.jobs_table,
                    **self.told(notify),
                )
                ((ids, inserted_at, _),) = rows
                for place, identity in zip(places, ids, strict=True):
                    if identity is not None:
                        inserted[place] = (identity, inserted_at)
            left = [place for place in round_.places if place not in inserted]
            for start in range(0, len(left), MAX_INSERT_JOBS):
                part = left[start : start + MAX_INSERT_JOBS]
                for order, *row in (
                    yield self.alike([round_.jobs[place] for place in part], notify=notify)
                ):
                    conflicted[part[order - 1]] = read_conflicted(row)
            left = [place for place in left if place not in conflicted]
            if not left:
                return inserted, conflicted
            round_ = Round(round_.jobs, left)
        raise UniqueKeyBusy(
            f"{described_keys(round_.jobs)}: jobs of that key came and went {MAX_ROUNDS} times "
            "while one was to be inserted; try again"
        )

    def alike(self, jobs: Sequence[Job], *, notify: bool) -> Statement:
        """Only who replaces something needs the right to change jobs."""
        payload = encode([conflict_row(job) for job in jobs])
        if any(unique.replace for unique in map(unique_of, jobs) if unique):
            return self.sql("replace_alike", jobs=payload, **self.told(notify))
        return self.sql("find_alike", jobs=payload)


#: What became of jobs, by their place in the list: the new id and the moment, or the like.
Inserted = dict[int, tuple[int, float]]
Conflicted = dict[int, Job]


class Round:
    """Jobs that are tried to be inserted, as what the statements are given."""

    def __init__(self, jobs: Sequence[Job], places: Sequence[int]) -> None:
        self.jobs = jobs
        self.places = places
        #: By identity: the jobs of one worker have one and the same.
        self.numbers: dict[int, int] = {}
        self.kind_rows: list[Row] = []
        self.seen: set[str] = set()
        at = 0
        self.parts: list[tuple[Sequence[int], str]] = []
        for part, payload in chunked([jobs[place] for place in places], self.row):
            self.parts.append((places[at : at + len(part)], payload))
            at += len(part)
        self.kinds = encode(self.kind_rows)

    def row(self, job: Job) -> Row:
        row = inserted_row(job)
        if unique := unique_of(job):
            row["key"] = key = unique.key(job)
            row["kind"] = self.number(unique)
            if key in self.seen:
                row["again"] = True
            self.seen.add(key)
        return row

    def number(self, unique: Unique) -> int:
        """Most jobs of a list are of one kind, and the statement is told of it once."""
        found = self.numbers.get(id(unique))
        if found is None:
            found = self.numbers[id(unique)] = len(self.kind_rows)
            self.kind_rows.append({"kind": found, "marks": unique.marks, **compared(unique)})
        return found


def unique_of(job: Job) -> Unique | None:
    """The job has read what it was given."""
    return cast("Unique | None", job.unique)


def compared(unique: Unique) -> Row:
    """What decides whether the holder of a key counts."""
    return {
        "states": unique.bits,
        "period": unique.period,
        "by_schedule": unique.timestamp == "scheduled_at",
    }


def conflict_row(job: Job) -> Row:
    """A job for who looks for its like, with what it replaces there."""
    unique = unique_of(job)
    assert unique is not None, "only a unique job has a like"
    key = unique.key(job)
    return {
        **inserted_row(job),
        **compared(unique),
        "meta": marked(job.meta, unique, key),
        "key": key,
        "replaced": unique.replace,
    }


def marked(meta: Mapping[str, Any], unique: Unique, key: str) -> dict[str, Any]:
    return {**meta, **unique.marks, "uniq_key": key}


def stored(job: Job, identity: int, inserted_at: float) -> Job:
    at = moment(inserted_at)
    assert at is not None
    meta = job.meta
    if unique := unique_of(job):
        meta = marked(meta, unique, unique.key(job))
    written = json.loads(encode({"args": job.args, "meta": meta}))
    return as_stored(job, written, identity, at)


def read_conflicted(row: Sequence[Any]) -> Job:
    job = read_job(row)
    job.conflicted = True
    return job


def inserting(steps: Callable[[], Steps[T]], jobs: Sequence[Job]) -> PostgresOperation[T]:
    return PostgresOperation(
        "insert",
        steps,
        transactional=len(jobs) > 1,
        unique_keys=lambda: described_keys(jobs),
    )


def described_keys(jobs: Sequence[Job]) -> str:
    """The unique keys of some jobs, for a message."""
    keys = dict.fromkeys(
        f"{unique.key(job)} of {job.worker}" for job in jobs if (unique := unique_of(job))
    )
    named = ", ".join(islice(keys, MAX_NAMED))
    more = f" and {len(keys) - MAX_NAMED} more" if len(keys) > MAX_NAMED else ""
    return f"unique key{'s' * (len(keys) > 1)} {named}{more}"
