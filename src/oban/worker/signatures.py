"""What a type checker sees of a function worker.

`send_email.new("a@b.c", schedule_in=60)` mixes the function's arguments with options of the job.
Python's type system cannot add keywords to a ParamSpec (PEP 612), so the calls are overloads:
without an option the arguments are checked in full, with one the option is checked and the
arguments are checked when the program runs. `send_email.options(schedule_in=60).new("a@b.c")`
is checked in full.
"""

from collections.abc import Coroutine, Iterable, Mapping
from datetime import datetime
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from oban.fields import Seconds
from oban.job import Job
from oban.worker.options import JobOptions

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
Built_co = TypeVar("Built_co", covariant=True)


class New(Protocol[P]):
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Job: ...
    @overload
    def __call__(self, *args: Any, queue: str, **more: Any) -> Job: ...
    @overload
    def __call__(self, *args: Any, priority: int, **more: Any) -> Job: ...
    @overload
    def __call__(self, *args: Any, max_attempts: int, **more: Any) -> Job: ...
    @overload
    def __call__(self, *args: Any, tags: Iterable[str], **more: Any) -> Job: ...
    @overload
    def __call__(self, *args: Any, meta: Mapping[str, Any], **more: Any) -> Job: ...
    @overload
    def __call__(self, *args: Any, scheduled_at: datetime | None, **more: Any) -> Job: ...
    @overload
    def __call__(self, *args: Any, schedule_in: Seconds | None, **more: Any) -> Job: ...
    @overload
    def __call__(self, *args: Any, timeout: Seconds | None, **more: Any) -> Job: ...
    @overload
    def __call__(self, *args: Any, deadline: Seconds | datetime | None, **more: Any) -> Job: ...


class Enqueue(Protocol[P, Built_co]):
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Built_co: ...
    @overload
    def __call__(self, *args: Any, conn: object, **more: Any) -> Built_co: ...
    @overload
    def __call__(self, *args: Any, queue: str, **more: Any) -> Built_co: ...
    @overload
    def __call__(self, *args: Any, priority: int, **more: Any) -> Built_co: ...
    @overload
    def __call__(self, *args: Any, max_attempts: int, **more: Any) -> Built_co: ...
    @overload
    def __call__(self, *args: Any, tags: Iterable[str], **more: Any) -> Built_co: ...
    @overload
    def __call__(self, *args: Any, meta: Mapping[str, Any], **more: Any) -> Built_co: ...
    @overload
    def __call__(self, *args: Any, scheduled_at: datetime | None, **more: Any) -> Built_co: ...
    @overload
    def __call__(self, *args: Any, schedule_in: Seconds | None, **more: Any) -> Built_co: ...
    @overload
    def __call__(self, *args: Any, timeout: Seconds | None, **more: Any) -> Built_co: ...
    @overload
    def __call__(
        self, *args: Any, deadline: Seconds | datetime | None, **more: Any
    ) -> Built_co: ...


class FunctionCalls(Protocol[P]):
    """The ways to make jobs of a function: what `options` returns."""

    @property
    def new(self) -> New[P]: ...
    @property
    def enqueue(self) -> Enqueue[P, Coroutine[Any, Any, Job]]: ...
    @property
    def enqueue_sync(self) -> Enqueue[P, Job]: ...

    async def enqueue_many(
        self,
        many: Iterable[Mapping[str, Any]],
        /,
        conn: object = None,
        **options: Unpack[JobOptions],
    ) -> list[Job]: ...

    def enqueue_many_sync(
        self,
        many: Iterable[Mapping[str, Any]],
        /,
        conn: object = None,
        **options: Unpack[JobOptions],
    ) -> list[Job]: ...

    def options(
        self, *, conn: object = None, **options: Unpack[JobOptions]
    ) -> "FunctionCalls[P]": ...


class FunctionWorker(FunctionCalls[P], Protocol[P, R_co]):
    """The function itself, and the ways to make jobs of it."""

    __name__: str
    __qualname__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
