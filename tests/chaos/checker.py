"""What was enqueued, what ran and what the tables say, held against each other."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psycopg


@dataclass(frozen=True, slots=True)
class Run:
    n: int
    attempt: int
    pid: int
    began_at: float
    #: None where the process ended, or the job raised, before it noted its end.
    ended_at: float | None


@dataclass(slots=True)
class Report:
    """One row of the fault table, in counts."""

    scenario: str
    enqueued: int = 0
    lost: int = 0
    #: Begun a second time while the first still ran in a process that lived.
    doubled: int = 0
    #: Runs beyond one per job, after a fault.
    excess: int = 0
    #: Late outcomes that changed nothing, and those of jobs that nothing had happened to.
    refused: int = 0
    unexplained: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        return not (self.lost or self.doubled or self.unexplained or self.failures)


def runs_of(files: list[Path]) -> list[Run]:
    begun: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    ended: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for file in files:
        for line in file.read_text().splitlines():
            kind, n, attempt, pid, at = line.split()
            kept = begun if kind == "B" else ended
            kept[int(n), int(attempt), int(pid)].append(float(at))
    runs = []
    for key, starts in begun.items():
        ends = [*ended[key], *[None] * len(starts)]
        runs += [Run(*key, start, end) for start, end in zip(starts, ends, strict=False)]
    return runs


def check(
    report: Report,
    dsn: str,
    enqueued: set[int],
    files: list[Path],
    died_at: dict[int, float],
    outputs: list[str],
    touched: set[int],
) -> None:
    """`died_at` says when which process stopped living, `touched` which jobs were cancelled."""
    runs = runs_of(files)
    by_job: dict[int, list[Run]] = defaultdict(list)
    for each in runs:
        by_job[each.n].append(each)
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "select (args ->> 'n')::int, state::text, id from oban_jobs where args ? 'n'"
        ).fetchall()
    states = {n: state for n, state, _ in rows}
    numbers = {identity: n for n, _, identity in rows}
    twins = [n for n, count in Counter(n for n, _, _ in rows).items() if count > 1]
    report.failures += [f"job {n} is in the table twice" for n in twins[:3]]
    report.enqueued = len(enqueued)
    lost = {n for n in enqueued if states.get(n) != "completed" or n not in by_job} - touched
    report.lost = len(lost)
    report.notes += [f"lost {n}: {states.get(n)}, {len(by_job[n])} runs" for n in sorted(lost)[:3]]
    for n, own in by_job.items():
        own.sort(key=lambda run: run.began_at)
        report.excess += len(own) - 1
        for first, second in pairwise(own):
            ended_at = min(first.ended_at or float("inf"), died_at.get(first.pid, float("inf")))
            if second.began_at < ended_at and n not in touched:
                report.doubled += 1
                report.notes.append(f"doubled {n}: {first} {second}")
    for output in outputs:
        for line in output.splitlines():
            if line.startswith("oban.producer.stale "):
                ack = json.loads(line.partition(" ")[2])
                job = numbers.get(ack["job_id"], -1)
                report.refused += 1
                # What had only waited in a process that was taken for dead has run once, elsewhere.
                needed = 1 if ack["state"] == "available" else 2
                if len(by_job.get(job, ())) < needed and job not in touched:
                    report.unexplained += 1
                    report.notes.append(f"refused without a reason: {line}")
