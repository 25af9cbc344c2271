"""`@worker` makes a worker of a class, `@job` of a function."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from oban.errors import InvalidOption
from oban.job import A, Job
from oban.periodic import CronOption
from oban.worker.assembly import class_definition, function_jobs
from oban.worker.definition import register
from oban.worker.jobs import ClassJobs
from oban.worker.options import WORKER_ONLY, JobOptions, WorkerOptions, check_options
from oban.worker.signatures import FunctionWorker


class HasProcess(Protocol):
    def process(self, job: Any, /) -> Any: ...


W = TypeVar("W", bound=HasProcess)
P = ParamSpec("P")
R = TypeVar("R")


@overload
def worker(cls: type[W], /) -> type[W]: ...
@overload
def worker(
    *,
    oban: str = "Oban",
    cron: CronOption | None = None,
    **options: Unpack[WorkerOptions],
) -> Callable[[type[W]], type[W]]: ...
def worker(
    cls: Any = None,
    /,
    *,
    oban: str = "Oban",
    cron: CronOption | None = None,
    **options: Any,
) -> Any:
    """Make the class a worker: its `process(job)` runs the jobs stored under its name.

    It stays the class it is and gains `new`, `enqueue`, `enqueue_many`, their `_sync` forms and
    `options`, each unless it has an attribute of that name. Each job gets an instance of its own,
    made without arguments; so does each call of `backoff(job)`. `options` are those its jobs have
    unless they are enqueued with others. `cron` enqueues jobs by the calendar: an expression, a
    table with `expr` and more, or a list of those. `executor` says where `process` runs: "async",
    "thread" or "process"; `hooks` what runs around it, beside methods of its own with those names;
    `retry_on`, `discard_on`, `cancel_on` and `snooze_on` what becomes of a job by what it raised.
    Raises TypeError for an option that does not exist, InvalidOption for a
    crontab that is wrong or a place where it cannot run, InvalidJob for a value it cannot have.

    Type checkers see the added methods when the class says `class Mailer(Worker)`, since a
    decorator cannot add to a type.
    """
    own = {"oban": oban, "cron": cron, **own_options(options)}
    checked = settings("@worker", oban, options)

    def decorate(cls: type[W]) -> type[W]:
        definition = class_definition(cls, Worker, checked, own)
        cls.__oban_jobs__ = ClassJobs(definition)  # type: ignore[attr-defined]
        for name in METHODS:
            if not any(name in vars(each) for each in cls.__mro__):
                setattr(cls, name, vars(Worker)[name])
        register(definition)
        return cls

    return decorate if cls is None else decorate(cls)


@overload
def job(function: Callable[P, R], /) -> FunctionWorker[P, R]: ...
@overload
def job(
    *,
    oban: str = "Oban",
    cron: CronOption | None = None,
    **options: Unpack[WorkerOptions],
) -> Callable[[Callable[P, R]], FunctionWorker[P, R]]: ...
def job(
    function: Any = None,
    /,
    *,
    oban: str = "Oban",
    cron: CronOption | None = None,
    **options: Any,
) -> Any:
    """Make the function a worker: a job is a call of it, kept for later.

    It stays the function it is, to be called as ever, and gains `new`, `enqueue`, `enqueue_sync`
    (which take its own arguments, and options of the job by keyword), `enqueue_many`,
    `enqueue_many_sync` (which take dicts of arguments by name) and `options`. Only the arguments
    that are given are stored; a default is the one it has when the job runs.
    """
    own = {"oban": oban, "cron": cron, **own_options(options)}
    checked = settings("@job", oban, options)

    def decorate(function: Callable[P, R]) -> FunctionWorker[P, R]:
        jobs = function_jobs(function, checked, own)
        try:
            for name in METHODS:
                setattr(function, name, getattr(jobs, name))
        except (AttributeError, TypeError):
            raise TypeError(
                f"@job cannot add `new` to {function!r:.80}; wrap it in a `def`"
            ) from None
        register(jobs.definition)
        return cast("FunctionWorker[P, R]", function)

    return decorate if function is None else decorate(function)


class Worker(Protocol[A]):
    """A class worker, for type checkers and as a base: `@worker() class Mailer(Worker): ...`.

    `async def process` runs on the event loop, `def process` in a thread, and either in a child
    process when it is decorated with `executor="process"`. A worker may also have
    `backoff(job)`, sync or async, which gives the seconds to wait after a failure.
    """

    @abstractmethod
    def process(self, job: Job[A], /) -> Any: ...

    @classmethod
    def new(cls, args: A | None = None, /, **options: Unpack[JobOptions]) -> Job:
        """Build a job and enqueue nothing."""
        return jobs_of(cls).new(args, **options)

    @classmethod
    async def enqueue(
        cls,
        args: A | None = None,
        /,
        conn: object = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Build a job and insert it, in the transaction of `conn` when that is given."""
        return await jobs_of(cls).enqueue(args, conn, **options)

    @classmethod
    def enqueue_sync(
        cls,
        args: A | None = None,
        /,
        conn: object = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        return jobs_of(cls).enqueue_sync(args, conn, **options)

    @classmethod
    async def enqueue_many(
        cls,
        many: Iterable[A],
        /,
        conn: object = None,
        **options: Unpack[JobOptions],
    ) -> list[Job]:
        """Insert one job for each dict of arguments; all have the same `options`."""
        return await jobs_of(cls).enqueue_many(many, conn, **options)

    @classmethod
    def enqueue_many_sync(
        cls,
        many: Iterable[A],
        /,
        conn: object = None,
        **options: Unpack[JobOptions],
    ) -> list[Job]:
        return jobs_of(cls).enqueue_many_sync(many, conn, **options)

    @classmethod
    def options(cls, **options: Unpack[JobOptions]) -> ClassJobs[A]:
        """The same ways to make jobs, which then have these options."""
        return jobs_of(cls).options(**options)


#: What a decorator adds.
METHODS: Final = (
    "new",
    "enqueue",
    "enqueue_sync",
    "enqueue_many",
    "enqueue_many_sync",
    "options",
)


def jobs_of(cls: type) -> ClassJobs[Any]:
    jobs = vars(cls).get("__oban_jobs__")
    if not isinstance(jobs, ClassJobs):
        raise TypeError(
            f"{cls.__qualname__} is no worker itself; decorate it with @worker(), whatever the "
            "classes it inherits from are"
        )
    return jobs


def settings(owner: str, oban: object, options: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(oban, str) or not oban:
        raise InvalidOption(f"{owner} is given oban={oban!r:.80}; it is the name of an Oban")
    return check_options(owner, options, also=("oban", *WORKER_ONLY))


def own_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take out what is the worker's alone to say."""
    return {name: options.pop(name) for name in WORKER_ONLY if name in options}
