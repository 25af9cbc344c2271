"""How jobs of a worker are built and enqueued, one class for each kind of worker."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Unpack

from oban import instances
from oban.instances import Instance
from oban.job import A, Job
from oban.worker.arguments import Arguments
from oban.worker.definition import Definition
from oban.worker.options import JobOptions, check_options

#: For who gives a class worker the arguments of a job as keywords.
ARGS_HINT: Final = "; the job's own arguments are one dict, given first: new({...})"


@dataclass(frozen=True, slots=True)
class ClassJobs(Generic[A]):
    """Jobs of a class worker, their arguments given as a dict."""

    definition: Definition

    def new(self, args: A | None = None, /, **options: Unpack[JobOptions]) -> Job:
        known = check_options(self.definition.name, options, hint=ARGS_HINT)
        return self.definition.build(args, known)

    async def enqueue(
        self,
        args: A | None = None,
        /,
        conn: object = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        job = self.new(args, **options)
        return await instance_of(self.definition).enqueue(job, conn=conn)

    def enqueue_sync(
        self,
        args: A | None = None,
        /,
        conn: object = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        job = self.new(args, **options)
        return instance_of(self.definition).enqueue_sync(job, conn=conn)

    async def enqueue_many(
        self,
        many: Iterable[A],
        /,
        conn: object = None,
        **options: Unpack[JobOptions],
    ) -> list[Job]:
        jobs = self.new_many(many, options)
        return await instance_of(self.definition).enqueue_many(jobs, conn=conn)

    def enqueue_many_sync(
        self,
        many: Iterable[A],
        /,
        conn: object = None,
        **options: Unpack[JobOptions],
    ) -> list[Job]:
        jobs = self.new_many(many, options)
        return instance_of(self.definition).enqueue_many_sync(jobs, conn=conn)

    def options(self, **options: Unpack[JobOptions]) -> "ClassJobs[A]":
        return ClassJobs(self.definition.with_options(check_options(self.definition.name, options)))

    def new_many(self, many: Iterable[A], options: JobOptions) -> list[Job]:
        jobs = self.options(**options)
        return [jobs.new(args) for args in many]


@dataclass(frozen=True, slots=True)
class FunctionJobs:
    """Jobs of a function worker, their arguments given as the function takes them.

    Names of the function's own parameters bind first; every other keyword is an option of the
    job, or `conn`. Type checkers see `signatures.FunctionCalls`.
    """

    definition: Definition
    arguments: Arguments
    conn: object = None

    def new(self, /, *values: Any, **keywords: Any) -> Job:
        return self.build(values, keywords)

    async def enqueue(self, /, *values: Any, **keywords: Any) -> Job:
        conn = self.take_conn(keywords)
        job = self.build(values, keywords)
        return await instance_of(self.definition).enqueue(job, conn=conn)

    def enqueue_sync(self, /, *values: Any, **keywords: Any) -> Job:
        conn = self.take_conn(keywords)
        job = self.build(values, keywords)
        return instance_of(self.definition).enqueue_sync(job, conn=conn)

    async def enqueue_many(
        self, many: Iterable[Mapping[str, Any]], /, conn: object = None, **options: Any
    ) -> list[Job]:
        conn = self.conn if conn is None else conn
        jobs = self.new_many(many, options)
        return await instance_of(self.definition).enqueue_many(jobs, conn=conn)

    def enqueue_many_sync(
        self, many: Iterable[Mapping[str, Any]], /, conn: object = None, **options: Any
    ) -> list[Job]:
        conn = self.conn if conn is None else conn
        jobs = self.new_many(many, options)
        return instance_of(self.definition).enqueue_many_sync(jobs, conn=conn)

    def options(self, *, conn: object = None, **options: Any) -> "FunctionJobs":
        checked = check_options(self.definition.name, options)
        return FunctionJobs(
            self.definition.with_options(checked),
            self.arguments,
            self.conn if conn is None else conn,
        )

    def build(self, values: tuple[Any, ...], keywords: Mapping[str, Any]) -> Job:
        own = self.arguments.keywords
        options = check_options(
            self.definition.name,
            {name: value for name, value in keywords.items() if name not in own},
            also=own,
        )
        args = self.arguments.bind(
            values, {name: value for name, value in keywords.items() if name in own}
        )
        return self.definition.build(args, options)

    def new_many(self, many: Iterable[Mapping[str, Any]], options: Mapping[str, Any]) -> list[Job]:
        definition = self.options(**options).definition
        return [definition.build(self.arguments.check(args), {}) for args in many]

    def take_conn(self, keywords: dict[str, Any]) -> object:
        """The connection to use, which `options` gives when the function has a `conn` itself."""
        given = None if "conn" in self.arguments.keywords else keywords.pop("conn", None)
        return self.conn if given is None else given


def instance_of(definition: Definition) -> Instance:
    """The Oban this worker enqueues through. Raises InstanceNotFound."""
    return instances.get(definition.oban)
