"""Inserting unique jobs, and finding the jobs that they are like."""

# What is called for each job has annotations too, which would be evaluated at each call.
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TypeVar, cast

from oban.engines.postgres.insert_rows import Row, as_stored, chunked, inserted_row
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
    def insert_unique(
        self, jobs: Sequence[Job], *, notify: bool, patience: float | None = None
    ) -> PostgresOperation[list[Job]]:
        """Insert those that have no like; in the place of each other return the job it is like."""
        first = Round(jobs, range(len(jobs)))

        def steps() -> Steps[list[Job]]:
            inserted, conflicted = yield from self.one_of_each(first, notify, patience)
            return [
                conflicted[place] if place in conflicted else stored(job, *inserted[place])
                for place, job in enumerate(jobs)
            ]

        return inserting(steps, jobs)

    def pour_unique(
        self, jobs: Sequence[Job], *, notify: bool, patience: float | None = None
    ) -> PostgresOperation[int]:
        """The same, and only how many were inserted."""
        first = Round(jobs, range(len(jobs)))

        def steps() -> Steps[int]:
            inserted, _ = yield from self.one_of_each(first, notify, patience)
            return len(inserted)

        return inserting(steps, jobs)

    def one_of_each(
        self, round_: Round, notify: bool, patience: float | None
    ) -> Steps[tuple[Inserted, Conflicted]]:
        """Insert what has no like, and find the like of the rest.

        It may be gone when it is looked for, and be there again when the job is inserted then.
        """
        inserted: Inserted = {}
        conflicted: Conflicted = {}
        idle_rounds = 0
        while idle_rounds < MAX_ROUNDS:
            for places, payload in round_.parts:
                rows = yield self.sql(
                    "insert_unique_jobs",
                    jobs=payload,
                    kinds=round_.kinds,
                    patience=None if patience is None else f"{round(patience * 1000)}ms",
                    jobs_table=self.jobs_table,
                    **self.told(notify),
                )
                ((ids, inserted_at, _),) = rows
                for place, identity in zip(places, ids, strict=True):
                    if identity is not None:
                        inserted[place] = (identity, inserted_at)
            left = [place for place in round_.places if place not in inserted]
            start = 0
            for part, _ in chunked([round_.jobs[place] for place in left]):
                for order, *row in (yield self.alike(part, notify=notify)):
                    conflicted[left[start + order - 1]] = read_conflicted(part[order - 1], row)
                start += len(part)
            left = [place for place in left if place not in conflicted]
            if not left:
                return inserted, conflicted
            idle_rounds += len(left) == len(round_.places)
            round_ = Round(round_.jobs, left)
        raise UniqueKeyBusy(
            f"{described_keys(round_.jobs)}: jobs of that key came and went {MAX_ROUNDS} times "
            "while one was to be inserted; try again"
        )

    def alike(self, jobs: Sequence[Job], *, notify: bool) -> Statement:
        """Only who replaces something needs the right to change jobs."""
        if any(unique.replace for unique in map(unique_of, jobs) if unique):
            payload = encode([{**inserted_row(job), **like_row(job)} for job in jobs])
            return self.sql("replace_alike", jobs=payload, **self.told(notify))
        return self.sql("find_alike", jobs=encode([like_row(job) for job in jobs]))


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
        wanted = [jobs[place] for place in places]
        self.keys = [unique.key(job) if (unique := unique_of(job)) else None for job in wanted]
        #: By key, which of these takes it.
        self.takers = takers(wanted, self.keys)
        self.count = 0
        at = 0
        self.parts: list[tuple[Sequence[int], str]] = []
        for part, payload in chunked(wanted, self.row):
            self.parts.append((places[at : at + len(part)], payload))
            at += len(part)
        self.kinds = encode(self.kind_rows)

    def row(self, job: Job) -> Row:
        """What the statement is told of the next job."""
        at, self.count = self.count, self.count + 1
        row = inserted_row(job)
        if (unique := unique_of(job)) and (key := self.keys[at]):
            row["key"] = key
            row["kind"] = self.number(unique)
            if at == self.takers[key]:
                row["takes"] = True
            elif at < self.takers[key]:
                row["shares"] = True
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


def like_row(job: Job) -> Row:
    """A job for who looks for its like, with what it replaces there."""
    unique = unique_of(job)
    assert unique is not None, "only a unique job has a like"
    key = unique.key(job)
    row: Row = {**compared(unique), "key": key}
    if unique.replace:
        row |= {"replaced": unique.replace, "meta": marked(job.meta, unique, key)}
    return row


def takers(jobs: Sequence[Job], keys: Sequence[str | None]) -> dict[str, int]:
    """Which of several jobs of one key takes it: the first that counts once it is inserted.

    Those before it are inserted with it, since they keep nobody out; those after it are its like.
    """
    found: dict[str, int] = {}
    settled: set[str] = set()
    now = datetime.now(UTC)
    for at, (job, key) in enumerate(zip(jobs, keys, strict=True)):
        unique = unique_of(job)
        if unique is not None and key is not None and key not in settled:
            found[key] = at
            if unique.counts(job.state, job.scheduled_at, now):
                settled.add(key)
    return found


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


def read_conflicted(job: Job, row: Sequence[Any]) -> Job:
    """The like of `job`, which stays as unique as that one is where it is enqueued again."""
    like = read_job(row)
    like.conflicted = True
    like.unique = job.unique
    return like


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
    return f"one of the unique keys {named}{more}" if len(keys) > 1 else f"unique key {named}"
