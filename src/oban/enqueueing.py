"""The event of an enqueue, and what its handlers send along with the jobs."""

from collections.abc import Mapping, Sequence
from copy import copy
from types import TracebackType
from typing import Any, Self

from oban import telemetry
from oban.job import Job


class Enqueueing:
    """Surrounds an enqueue with the span `oban.client.enqueue`.

    What handlers of its `.start` put into `meta` is stored in the meta of each job, where it has
    no such key yet. The jobs that were given stay as they are: those that carry more are copies.
    """

    __slots__ = ("jobs", "meta", "span")

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.meta: dict[str, Any] = {}
        self.span = telemetry.span("oban.client.enqueue", {"jobs": jobs, "meta": self.meta})

    def __enter__(self) -> Self:
        self.span.__enter__()
        self.jobs = self.carrying(self.jobs)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.span.__exit__(error_type, error, trace)

    def carrying(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """The jobs with what is sent along."""
        return [with_meta(job, self.meta) for job in jobs] if self.meta else jobs

    def end(self, inserted: list[Job]) -> list[Job]:
        """Say what the database made of the jobs, and return it."""
        self.span.add({"jobs": inserted, "count": len(inserted)})
        return inserted

    def end_stream(self, count: int) -> int:
        """The same of jobs that nobody keeps."""
        self.span.add({"count": count})
        return count


def with_meta(job: Job, carried: Mapping[str, Any]) -> Job:
    meta: object = job.meta
    if not isinstance(meta, dict):  # set past all checks: the insert says what is wrong
        return job
    laden = copy(job)
    laden.meta = {**carried, **meta}
    return laden
