"""`@worker` makes a worker of a class, `@job` of a function."""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from oban.errors import InvalidOption
from oban.job import A, Job
from oban.periodic import CronOption, parse_all
from oban.vault import require_unguessable
from oban.worker.arguments import Arguments
from oban.worker.definition import (
    Definition,
    clean_aliases,
    is_async,
    refuse_generator,
    register,
)
from oban.worker.execution import clean_place, clean_timeout
from oban.worker.hooks import clean_hooks, hooked, own_hooks
from oban.worker.jobs import ClassJobs, FunctionJobs
from oban.worker.naming import stored_name
from oban.worker.options import WORKER_ONLY, JobOptions, WorkerOptions, check_options, settle
from oban.worker.policy import clean_policy
from oban.worker.signatures import FunctionWorker
from oban.worker.typed import TypedArgs, args_type


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
    own = own_options(options)
    checked = settings("@worker", oban, options)

    def decorate(cls: type[W]) -> type[W]:
        definition = class_definition(cls, oban, checked, cron, own)
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
    own = own_options(options)
    checked = settings("@job", oban, options)

    def decorate(function: Callable[P, R]) -> FunctionWorker[P, R]:
        jobs = function_jobs(function, oban, checked, cron, own)
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


def clean_encrypted(worker: str, given: object, options: Mapping[str, Any]) -> bool:
    if given is not None and not isinstance(given, bool):
        raise InvalidOption(f"encrypted of {worker} is {given!r:.80}; it is True or False")
    if given:
        require_unguessable(worker, Job(worker=worker, unique=options.get("unique")))
    return bool(given)


def of_jobs(options: Mapping[str, Any]) -> dict[str, Any]:
    """What each job is to carry: the worker's own timeout is known wherever its code is."""
    return {name: value for name, value in options.items() if name != "timeout"}


def class_definition(
    cls: type[HasProcess],
    oban: str,
    options: Mapping[str, Any],
    cron: CronOption | None,
    own: Mapping[str, Any],
) -> Definition:
    given: object = cls
    if not inspect.isclass(given):
        raise TypeError(f"@worker is for a class, got {cls!r:.80}; use @job for a function")
    name = stored_name(cls.__module__, cls.__qualname__)
    if inspect.isabstract(cls) or not hasattr(cls, "process"):
        missing = sorted(getattr(cls, "__abstractmethods__", ())) or ["process"]
        raise TypeError(
            f"{name} has no {', '.join(missing)}; a worker has `process(self, job)`, which runs "
            "a job, and nothing abstract"
        )
    process: object = cls.process
    refuse_generator(f"{name}.process", process)
    place = clean_place(name, own.get("executor"), is_async=is_async(process))
    call = method(cls, name, "process")
    if own_hooks(name, cls, is_async=is_async(process)):
        call = hooked(cls, is_async=is_async(process))
    backoff = None if getattr(cls, "backoff", None) is None else method(cls, name, "backoff")
    typed = None
    if (kind := args_type(cls, Worker)) is not None:
        typed = TypedArgs(name, kind, private=bool(own.get("encrypted")))
        call = typed.around(call, is_async=is_async(process))
        backoff = None if backoff is None else typed.around_backoff(backoff)
    entries = parse_all(name, cron)
    if typed is not None:
        for entry in entries:
            typed.stored(entry.args)
    return Definition(
        name=name,
        options=settle(name, of_jobs(options)),
        oban=oban,
        is_async=is_async(process),
        executor=place,
        timeout=clean_timeout(options.get("timeout")),
        hooks=clean_hooks(f"hooks of {name}", own.get("hooks")),
        policy=clean_policy(name, own),
        aliases=clean_aliases(name, own.get("aliases")),
        encrypted=clean_encrypted(name, own.get("encrypted"), options),
        call=call,
        backoff=backoff,
        typed=typed,
        cron=entries,
    )


def method(cls: type, name: str, attribute: str) -> Callable[[Job], Any]:
    """Call the method on a fresh instance, or on the class when it needs none."""
    static = inspect.getattr_static(cls, attribute)
    on_class = isinstance(static, staticmethod | classmethod)
    own = () if on_class or not hasattr(static, "__get__") else (None,)
    try:
        if not on_class:
            inspect.signature(cls).bind()
        inspect.signature(getattr(cls, attribute)).bind(*own, None)
    except TypeError as error:
        raise TypeError(
            f"{name} cannot be a worker: {error}. It is made without arguments for each job, "
            f"and its {attribute} takes the job: `def {attribute}(self, job)`"
        ) from None
    except ValueError:
        pass  # written in C, with no signature to look at

    def call(job: Job) -> Any:
        return getattr(cls if on_class else cls(), attribute)(job)

    return call


def function_jobs(
    function: Any,
    oban: str,
    options: Mapping[str, Any],
    cron: CronOption | None,
    own: Mapping[str, Any],
) -> FunctionJobs:
    if inspect.isclass(function):
        raise TypeError(f"@job is for a function, got {function!r:.80}; use @worker for a class")
    if isinstance(function, staticmethod | classmethod):
        raise TypeError("put @staticmethod above @job; a classmethod cannot be a job")
    if not callable(function) or not hasattr(function, "__qualname__"):
        raise TypeError(f"@job is for a function with a name, got {function!r:.80}")
    if function.__name__ == "<lambda>":
        raise TypeError("a lambda has no name to store its jobs under; use `def` with @job")
    name = stored_name(function.__module__, function.__qualname__)
    refuse_generator(name, function)
    arguments = Arguments(function, name)

    def call(job: Job) -> Any:
        values, keywords = arguments.spread(job.args)
        return function(*values, **keywords)

    definition = Definition(
        name=name,
        options=settle(name, of_jobs(options)),
        oban=oban,
        is_async=is_async(function),
        executor=clean_place(name, own.get("executor"), is_async=is_async(function)),
        timeout=clean_timeout(options.get("timeout")),
        hooks=clean_hooks(f"hooks of {name}", own.get("hooks")),
        policy=clean_policy(name, own),
        aliases=clean_aliases(name, own.get("aliases")),
        encrypted=clean_encrypted(name, own.get("encrypted"), options),
        call=call,
        cron=parse_all(name, cron),
    )
    for entry in definition.cron:
        arguments.check(entry.args)
    return FunctionJobs(definition, arguments)
