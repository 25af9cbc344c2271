"""Pages of jobs in the order of their state, however many there are, and how many that is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

from oban.engines.browsing import CensusCount, Cursor, JobPage, JobSearch
from oban.engines.operation import Operation
from oban.engines.postgres.jobs import in_order
from oban.engines.postgres.reads import as_list
from oban.engines.postgres.rows import read_glance
from oban.engines.postgres.statements import PostgresOperation, Row, Rows, Steps
from oban.engines.postgres.verbs import Verbs
from oban.fields import encode
from oban.job import Job

T = TypeVar("T")

#: Jobs that a page looks at to find those that match, however rare they are.
WINDOW: Final = 20_000
#: So many times as many where a look at one is only at its state: a few jobs that are to be retried
#: may stand behind a million that are scheduled, in an index that is theirs as well. This takes
#: 0.1 s; an index of their own would cost each job that fails a fifth more log.
EASY: Final = 10
#: Bytes of arguments, as they are stored, that are read for a list, and characters written out.
MOST_ARGS: Final = 4_000
#: Lanes that are looked into one by one.
MOST_LANES: Final = 1_000
#: States whose order begins with the queue, and others that are not read together with one more;
#: None is all of them.
BY_QUEUE: Final = ("available", "completed", "cancelled", "discarded")
ALONE: Final = (None, "suspended", "executing")


class BrowsingVerbs(Verbs):
    def browse(
        self, wanted: JobSearch, limit: int, cursor: Cursor | None = None, window: int = WINDOW
    ) -> PostgresOperation[JobPage]:
        def steps() -> Steps[JobPage]:
            found = yield from self.browsing(wanted, limit, cursor, window)
            ids, following = split(found, limit)
            rows: Rows = ()
            if ids:
                rows = yield self.sql("glance", ids=ids, most=MOST_ARGS)
            jobs = in_order(ids, map(read_glance, rows))
            return JobPage(jobs, following, len(ids) < limit and following is not None)

        return PostgresOperation("browse", steps, transactional=True, repeatable=True)

    def browse_ids(
        self, wanted: JobSearch, limit: int, cursor: Cursor | None = None, window: int = WINDOW
    ) -> PostgresOperation[tuple[list[int], Cursor | None]]:
        def steps() -> Steps[tuple[list[int], Cursor | None]]:
            found = yield from self.browsing(wanted, limit, cursor, window)
            return split(found, limit)

        return PostgresOperation("browse_ids", steps, transactional=True, repeatable=True)

    def browsing(
        self, wanted: JobSearch, limit: int, cursor: Cursor | None, window: int
    ) -> Steps[Rows]:
        """Read in the order of the state: its matches, and where there may be more."""
        yield self.sql("plan_in_order")
        given = dict(matching(wanted), wanted=limit)
        at = cursor or Cursor(None, None, None)
        is_all = wanted.state in BY_QUEUE or (wanted.state in ALONE and not wanted.queue)
        if wanted.is_plain and is_all:
            window = limit + 1  # all that is looked at matches
        if wanted.ids:
            if cursor is not None:
                given["ids"] = [each for each in wanted.ids if each < (cursor.id or 0)]
            return (yield self.sql("browse_named", state=wanted.state, **given))
        given["id"] = at.id
        match wanted.state:
            case None:
                statement = self.sql("browse_newest", window=window, **given)
            case "suspended":
                statement = self.sql("browse_suspended", window=window, **given)
            case "executing":
                statement = self.sql("browse_executing", moment=at.moment, **given)
            case "scheduled" | "retryable":
                window *= EASY if wanted.is_plain else 1
                statement = self.sql(
                    "browse_due", state=wanted.state, moment=at.moment, window=window, **given
                )
            case "available":
                streams = yield self.sql("available_streams", queue=wanted.queue, most=MOST_LANES)
                lanes = [(queue, lane) for queue, lane in streams if lane is not None]
                last_queue, last_lane = lanes[-1] if len(lanes) == MOST_LANES else (None, None)
                statement = self.sql(
                    "browse_available",
                    queues=[queue for queue, _ in streams],
                    lanes=[lane for _, lane in streams],
                    last_queue=last_queue,
                    last_lane=last_lane,
                    most=share(window, limit, streams),
                    moment=at.moment,
                    rank=at.rank,
                    **given,
                )
            case _:
                queues = [(wanted.queue,)] if wanted.queue else ()
                streams = queues or (yield self.sql("ended_streams", state=wanted.state))
                statement = self.sql(
                    "browse_ended",
                    state=wanted.state,
                    queues=[queue for (queue,) in streams],
                    most=share(window, limit, streams),
                    moment=at.moment,
                    **given,
                )
        return (yield statement)

    def count_matching(self, wanted: JobSearch, most: int) -> PostgresOperation[int]:
        def steps() -> Steps[int]:
            ((count,),) = yield self.sql(
                "count_matching", state=wanted.state, most=most, **matching(wanted)
            )
            return int(count)

        return PostgresOperation("count_matching", steps, repeatable=True)

    def newest_id(self) -> PostgresOperation[int]:
        def steps() -> Steps[int]:
            ((newest,),) = yield self.sql("newest_id")
            return int(newest)

        return PostgresOperation("newest_id", steps, repeatable=True)

    def last_runs(
        self, entries: Sequence[str], known: Sequence[int], limit: int, window: int = WINDOW
    ) -> PostgresOperation[dict[str, list[Job]]]:
        def steps() -> Steps[dict[str, list[Job]]]:
            found = yield self.sql(
                "last_runs", entries=list(entries), known=list(known), limit=limit, window=window
            )
            ids = [identity for _, identity in found]
            rows = yield self.sql("glance", ids=ids, most=0)
            jobs = {job.id: job for job in map(read_glance, rows)}
            runs: dict[str, list[Job]] = {}
            for entry, identity in found:
                if identity in jobs:  # unless it was deleted meanwhile
                    runs.setdefault(entry, []).append(jobs[identity])
            return runs

        return PostgresOperation("last_runs", steps, repeatable=True)

    def census(self) -> PostgresOperation[list[CensusCount]]:
        def steps() -> Steps[list[CensusCount]]:
            rows = yield self.sql("census")
            return [CensusCount(*row) for row in rows]

        return PostgresOperation("census", steps, repeatable=True)

    def estimate(self) -> PostgresOperation[dict[str, int]]:
        def steps() -> Steps[dict[str, int]]:
            rows = yield self.sql("estimate", jobs_table=self.jobs_table)
            return {state: int(count) for state, count in rows}

        return PostgresOperation("estimate", steps, repeatable=True)

    def within(self, operation: Operation[T], seconds: float) -> PostgresOperation[T]:
        wanted = cast("PostgresOperation[T]", operation)
        milliseconds = max(1, round(seconds * 1000))  # zero would be without a bound
        limit = self.sql("limit_time", patience=f"{milliseconds}ms")

        def steps() -> Steps[T]:
            yield limit
            return (yield from wanted.steps())

        return replace(wanted, steps=steps, transactional=True, is_timed=True)


def matching(wanted: JobSearch) -> dict[str, Any]:
    """The parameters of the part `matching`."""
    paths = [
        {"field": each.field, "path": list(each.keys), "text": each.text} for each in wanted.paths
    ]
    return {
        "queue": wanted.queue,
        "worker": wanted.worker,
        "worker_like": wanted.worker_like,
        "node": wanted.node,
        "tags": as_list(wanted.tags),
        "priority": wanted.priority,
        "ids": list(wanted.ids) if wanted.ids else None,
        "since": None if wanted.since is None else wanted.since.timestamp(),
        "paths": encode(paths) if paths else None,
        "up_to": wanted.up_to,
    }


def share(window: int, limit: int, streams: Rows) -> int:
    """How many jobs of each stream are looked at: a page of each at least."""
    return max(limit + 1, window // max(1, len(streams)))


def split(rows: Rows, limit: int) -> tuple[list[int], Cursor | None]:
    """The ids of a page, and where the next one begins; None where there is none."""
    matches = [row for row in rows if row[3]]
    ids = [row[0] for row in matches]
    if len(ids) == limit:
        return ids, cursor_at(matches[-1])
    (*_, last) = (None, *(row for row in rows if not row[3]))
    return ids, None if last is None else cursor_at(last)


def cursor_at(row: Row) -> Cursor:
    identity, moment, rank, _ = row
    return Cursor(identity, moment, rank)
