import asyncio
import contextvars
import functools
import inspect
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.rows import restored

from oban import instances
from oban.errors import InstanceNotFound, InvalidJob, InvalidOption
from oban.job import Job
from oban.states import JobState
from oban.worker import Definition, Worker, forget, job, registered, worker

HERE = __name__


class Ledger:
    """An instance that keeps in memory what is enqueued."""

    def __init__(self, name: str = "Oban") -> None:
        self.name = name
        self.jobs: list[Job] = []
        self.conns: list[object] = []

    async def enqueue(self, job: Job, *, conn: object = None) -> Job:
        return self.enqueue_sync(job, conn=conn)

    async def enqueue_many(self, *jobs: Job | Iterable[Job], conn: object = None) -> list[Job]:
        return self.enqueue_many_sync(*jobs, conn=conn)

    def enqueue_sync(self, job: Job, *, conn: object = None) -> Job:
        return self.enqueue_many_sync(job, conn=conn)[0]

    def enqueue_many_sync(self, *jobs: Job | Iterable[Job], conn: object = None) -> list[Job]:
        flat = [one for each in jobs for one in ([each] if isinstance(each, Job) else each)]
        self.jobs += flat
        self.conns.append(conn)
        return flat


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger()
    instances.register(ledger)
    yield ledger
    instances.unregister(ledger)


@pytest.fixture(autouse=True)
def _clean_registry() -> Iterator[None]:
    before = set(registered())
    yield
    for name in set(registered()) - before:
        forget(name)


def definition(of: Any) -> Definition:
    return registered()[f"{of.__module__}.{of.__qualname__}"]


@worker(queue="mailers", max_attempts=5)
class Mailer(Worker):
    """Sends mail."""

    async def process(self, job: Job) -> object:
        return (self, job.args)

    def backoff(self, job: Job) -> int:
        return 30


@worker
class Plain:
    def process(self, job: Job) -> object:
        return (self, job.args)


@job(queue="mail")
def send_email(to: str, subject: str = "Hi") -> str:
    """Send one message."""
    return f"{to}: {subject}"


@job
async def fetch(url: str, /, *, depth: int = 1) -> tuple[str, int]:
    return (url, depth)


@job(queue="clashing")
def clashing(queue: str, conn: str = "", priority: int = 7) -> tuple[str, str, int]:
    return (queue, conn, priority)


#: The same, for calls that a type checker refuses as they are meant to be refused.
loose_worker: Any = worker
loose_job: Any = job
loose_send: Any = send_email


# Class workers


def test_a_class_worker_builds_a_job_with_the_options_of_its_decorator() -> None:
    built = Mailer.new({"to": "a@b.c"})
    assert (built.worker, built.args) == (f"{HERE}.Mailer", {"to": "a@b.c"})
    assert (built.queue, built.max_attempts, built.priority) == ("mailers", 5, 0)


def test_arguments_may_be_left_out_and_are_the_jobs_own() -> None:
    args = {"to": "a"}
    built = Mailer.new(args)
    args["to"] = "b"
    assert (built.args, Mailer.new().args) == ({"to": "a"}, {})


def test_options_given_at_the_call_replace_those_of_the_decorator() -> None:
    @worker(tags=["one"], meta={"a": 1}, schedule_in=60, queue="x")
    class Tagged(Worker):
        def process(self, job: Job) -> None: ...

    built = Tagged.new({}, tags=["TWO "], meta={"b": 2}, queue="y")
    assert (built.tags, built.meta, built.queue) == (["two"], {"b": 2}, "y")
    at = datetime(2100, 1, 1, tzinfo=UTC)
    assert Tagged.new({}, scheduled_at=at).scheduled_at == at
    assert Tagged.new({}, schedule_in=None).state is JobState.AVAILABLE


def test_schedule_in_counts_from_the_moment_the_job_is_built() -> None:
    @worker(schedule_in=timedelta(hours=1))
    class Later(Worker):
        def process(self, job: Job) -> None: ...

    before = datetime.now(UTC)
    due = Later.new().scheduled_at
    assert due is not None
    assert before + timedelta(hours=1) <= due <= datetime.now(UTC) + timedelta(hours=1)
    assert Later.new().state is JobState.SCHEDULED


def test_scheduled_at_and_schedule_in_together_are_refused() -> None:
    with pytest.raises(InvalidJob, match="both given"):
        Mailer.new({}, scheduled_at=datetime.now(UTC), schedule_in=1)


def test_default_tags_and_meta_are_shared_with_nobody() -> None:
    meta = {"deep": {"a": 1}}

    @worker(meta=meta, tags=iter(["x"]))
    class Shared(Worker):
        def process(self, job: Job) -> None: ...

    meta["deep"]["a"] = 2
    first = Shared.new()
    first.meta["deep"]["a"] = 3
    first.tags.append("y")
    assert (Shared.new().meta, Shared.new().tags) == ({"deep": {"a": 1}}, ["x"])


def test_the_decorated_class_stays_a_class_to_instantiate_subclass_and_pickle() -> None:
    assert isinstance(Mailer, type)
    assert (Mailer.__name__, Mailer.__doc__) == ("Mailer", "Sends mail.")
    assert isinstance(Mailer(), Mailer)
    assert pickle.loads(pickle.dumps(Mailer)) is Mailer
    assert isinstance(pickle.loads(pickle.dumps(Plain())), Plain)

    class Sub(Mailer): ...

    assert isinstance(Sub(), Mailer)


def test_a_subclass_is_another_worker_once_it_is_decorated_itself() -> None:
    class Undecorated(Mailer): ...

    with pytest.raises(TypeError, match=r"Undecorated is no worker itself; decorate it"):
        Undecorated.new()

    @worker(queue="other")
    class Decorated(Mailer): ...

    assert Decorated.new().worker.endswith("Decorated")
    assert (Decorated.new().queue, Mailer.new().queue) == ("other", "mailers")


def test_a_class_that_does_not_inherit_from_worker_gains_the_same_methods() -> None:
    built: Job = Plain.new({"a": 1}, priority=3)  # type: ignore[attr-defined]  # see Worker
    assert (built.worker, built.priority) == (f"{HERE}.Plain", 3)


def test_attributes_of_the_class_itself_are_not_replaced() -> None:
    @worker
    class Own:
        options = "mine"

        def process(self, job: Job) -> None: ...

    assert Own.options == "mine"
    assert Own.new().worker.endswith("Own")  # type: ignore[attr-defined]


@pytest.mark.parametrize("keyword", ["args", "to"])
def test_arguments_of_a_class_worker_given_as_keywords_are_told_their_place(keyword: str) -> None:
    with pytest.raises(TypeError, match=f"no option '{keyword}'.* are one dict, given first"):
        Mailer.new(**{keyword: "a@b.c"})  # type: ignore[arg-type]


async def test_each_job_is_run_by_a_fresh_instance() -> None:
    call = definition(Mailer).call
    (one, args), (two, _) = await call(Mailer.new({"a": 1})), await call(Mailer.new())
    assert args == {"a": 1}
    assert isinstance(one, Mailer)
    assert one is not two


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_process_and_backoff_may_do_without_an_instance(kind: Callable[..., Any]) -> None:
    def process(*args: object) -> object:
        return args[-1]

    members = {"process": kind(process), "backoff": kind(process), "__module__": HERE}
    cls = type("Instanceless", (), {**members, "__init__": lambda self, needed: None})
    worker(cls)
    built = cls.new()  # type: ignore[attr-defined]
    assert definition(cls).call(built) is built
    backoff = definition(cls).backoff
    assert backoff is not None
    assert backoff(built) is built


async def test_backoff_is_optional_and_may_be_async() -> None:
    @worker
    class Patient(Worker):
        def process(self, job: Job) -> None: ...

        async def backoff(self, job: Job) -> float:
            return job.attempt * 2.0

    backoff = definition(Patient).backoff
    assert backoff is not None
    assert await backoff(Patient.new()) == 0.0
    assert definition(Plain).backoff is None
    plain = definition(Mailer).backoff
    assert plain is not None
    assert plain(Mailer.new()) == 30


async def test_class_workers_enqueue_through_the_instance_they_name(ledger: Ledger) -> None:
    other = Ledger("Other")
    instances.register(other)

    @worker(oban="Other")
    class Elsewhere(Worker):
        def process(self, job: Job) -> None: ...

    try:
        one = await Mailer.enqueue({"n": 1}, "conn", priority=2)
        two = Mailer.enqueue_sync({"n": 2}, conn="conn2")
        many = await Mailer.enqueue_many(({"n": n} for n in (3, 4)), tags=iter(["x"]))
        more = Mailer.enqueue_many_sync([{"n": 5}], conn="conn3")
        bound = await Mailer.options(queue="bound").options(priority=9).enqueue({"n": 6})
        away = await Elsewhere.enqueue()
    finally:
        instances.unregister(other)
    assert [each.args["n"] for each in ledger.jobs] == [1, 2, 3, 4, 5, 6]
    assert ledger.conns == ["conn", "conn2", None, "conn3", None]
    assert ledger.jobs == [one, two, *many, *more, bound]
    assert (one.priority, bound.priority, bound.queue) == (2, 9, "bound")
    assert [each.tags for each in many] == [["x"], ["x"]]
    assert other.jobs == [away]


# Function workers


def test_a_function_worker_stores_arguments_by_name_and_only_those_given() -> None:
    built = send_email.new("a@b.c", subject="Yo", schedule_in=60)
    assert built.args == {"to": "a@b.c", "subject": "Yo"}
    assert (built.worker, built.queue, built.state) == (f"{HERE}.send_email", "mail", "scheduled")
    assert send_email.new("a@b.c").args == {"to": "a@b.c"}


async def test_stored_arguments_come_back_as_the_function_takes_them() -> None:
    assert definition(send_email).call(send_email.new("a", "b")) == "a: b"
    assert definition(send_email).call(send_email.new("a")) == "a: Hi"
    assert await definition(fetch).call(fetch.new("u", depth=3)) == ("u", 3)


def test_positional_only_parameters_keep_their_places() -> None:
    @job
    def spread(a: int = 1, b: int = 2, /, c: int = 3) -> tuple[int, int, int]:
        return (a, b, c)

    run = definition(spread).call
    assert run(spread.new(7, 8, 9)) == (7, 8, 9)
    assert run(spread.new(7, c=9)) == (7, 2, 9)
    assert run(Job(worker="spread", args={"b": 5})) == (1, 5, 3)


def test_a_keyword_of_a_positional_only_name_is_an_option() -> None:
    @job
    def odd(queue: str, /) -> str:
        return queue

    built = odd.new("mine", queue="ours")
    assert (built.args, built.queue) == ({"queue": "mine"}, "ours")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"to": "a", "extra": 1}, "unexpected keyword argument 'extra'"),
        ({}, "missing 1 required positional argument: 'to'"),
        ([1, 2], r"args is a list \(\[1, 2\]\); .*send_email takes a dict"),
    ],
)
def test_stored_arguments_the_function_cannot_take_are_a_type_error(args: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        definition(send_email).call(restored(worker="w", args=args))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: loose_send.new(), "missing a required argument: 'to'; the signature is"),
        (lambda: loose_send.new("a", "b", "c"), "too many positional arguments"),
        (lambda: loose_send.new("a", to="b"), "multiple values for argument 'to'"),
        (lambda: loose_send.new("a", subjct="b"), "no option 'subjct'; did you mean 'subject'"),
        (lambda: loose_send.new("a", prioritty=1), "did you mean 'priority'"),
        (lambda: loose_send.new("a", conn=1), "no option 'conn'"),
    ],
)
def test_a_wrong_argument_is_a_type_error_when_the_job_is_built(
    call: Callable[[], Job], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        call()


def test_arguments_json_cannot_hold_are_refused_when_the_job_is_built() -> None:
    with pytest.raises(InvalidJob, match=r"args\['to'\] is a object"):
        loose_send.new(object())


async def test_own_parameters_bind_first_and_options_settles_the_clash(ledger: Ledger) -> None:
    built = clashing.new("mine", conn="c", priority=1)
    assert built.args == {"queue": "mine", "conn": "c", "priority": 1}
    assert (built.queue, built.priority) == ("clashing", 0)
    bound = clashing.options(queue="ours", priority=4, conn="transaction")
    await bound.enqueue("mine", "c")
    bound.options(priority=5).enqueue_sync(queue="mine", conn="c")
    await bound.enqueue_many([{"queue": "many"}])
    bound.enqueue_many_sync([{"queue": "many"}], conn="other")
    first, second, *many = ledger.jobs
    assert [each.queue for each in many] == ["ours", "ours"]
    assert first.args == second.args == {"queue": "mine", "conn": "c"}
    assert (first.queue, first.priority, second.queue, second.priority) == ("ours", 4, "ours", 5)
    assert ledger.conns == ["transaction", "transaction", "transaction", "other"]


async def test_function_workers_enqueue_one_and_many(ledger: Ledger) -> None:
    one = await send_email.enqueue("a", subject="s", conn="conn", tags=["t"])
    two = send_email.enqueue_sync("b", conn="conn2", queue="q")
    many = await send_email.enqueue_many(({"to": to} for to in "cd"), tags=iter(["x"]))
    more = send_email.enqueue_many_sync([{"to": "e", "subject": "s"}], conn="conn3")
    assert ledger.jobs == [one, two, *many, *more]
    assert ledger.conns == ["conn", "conn2", None, "conn3"]
    assert [each.args["to"] for each in ledger.jobs] == list("abcde")
    assert (one.tags, two.queue, [each.tags for each in many]) == (["t"], "q", [["x"], ["x"]])


async def test_one_wrong_dict_among_many_enqueues_none(ledger: Ledger) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'toe'"):
        await send_email.enqueue_many([{"to": "a"}, {"to": "b", "toe": "c"}])
    assert ledger.jobs == []


async def test_the_function_is_called_as_ever() -> None:
    assert send_email("a", subject="b") == "a: b"
    coroutine = fetch("u")
    assert inspect.iscoroutine(coroutine)
    assert await coroutine == ("u", 1)


def test_the_function_keeps_its_signature_documentation_and_pickle() -> None:
    assert str(inspect.signature(send_email)) == "(to: str, subject: str = 'Hi') -> str"
    assert (send_email.__name__, send_email.__doc__) == ("send_email", "Send one message.")
    assert pickle.loads(pickle.dumps(send_email)) is send_email
    assert inspect.iscoroutinefunction(fetch)

    @functools.wraps(send_email)
    def wrapper(*args: Any, **kwargs: Any) -> str:
        return send_email(*args, **kwargs)

    assert wrapper("a") == "a: Hi"
    assert (wrapper.__name__, inspect.signature(wrapper)) == (
        "send_email",
        inspect.signature(send_email),
    )


# Decoration


def test_is_async_looks_through_wrappers_partials_and_callable_objects() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    async def run(extra: int, job: Job) -> int:
        return extra

    class Callee:
        async def __call__(self, job: Job) -> int:
            return 5

    def made(process: object) -> bool:
        cls = type("Made", (), {"process": process, "__module__": HERE})
        worker(cls)
        return definition(cls).is_async

    async def method(self: object, job: Job) -> None: ...

    assert made(method)
    assert made(logged(method))
    assert made(staticmethod(functools.partial(run, 3)))
    assert made(Callee())
    assert not made(lambda self, job: None)
    assert not made(logged(lambda self, job: None))
    assert (definition(fetch).is_async, definition(send_email).is_async) == (True, False)


def test_process_that_is_a_callable_object_gets_the_job() -> None:
    class Callee:
        def __call__(self, job: Job) -> Job:
            return job

    cls = type("Calling", (), {"process": Callee(), "__module__": HERE})
    worker(cls)
    built = Job(worker="w")
    assert definition(cls).call(built) is built


def decorate(**members: Any) -> Any:
    return worker(type("Faulty", (), {"__module__": HERE, **members}))


def generator(*args: object) -> Iterator[int]:
    yield 1


async def async_generator(*args: object) -> Any:
    yield 1


def fine(self: object, job: Job) -> None: ...


def variadic(*args: int) -> None: ...


def keywords(**kwargs: int) -> None: ...


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (lambda: loose_worker(qeue="x"), "@worker has no option 'qeue'; did you mean 'queue'"),
        (lambda: loose_job(prioritty=1), "@job has no option 'prioritty'; did you mean 'priority'"),
        (
            lambda: loose_worker(zzz=1),
            "no option 'zzz'; it takes aliases, cancel_on, discard_on",
        ),
        (lambda: decorate(), "has no process; a worker has `process"),
        (lambda: loose_worker(type("Empty", (Worker,), {})), "has no process; a worker has"),
        (lambda: decorate(process=5), "cannot be a worker: .*not a callable"),
        (lambda: decorate(process=lambda self: 1), "too many positional arguments"),
        (lambda: decorate(process=fine, __init__=lambda self, x: None), "argument: 'x'"),
        (lambda: decorate(process=fine, backoff=lambda self: 1), "its backoff takes the job"),
        (lambda: decorate(process=async_generator), "Faulty.process is a generator: it yields"),
        (lambda: decorate(process=generator), "Faulty.process is a generator: it yields"),
        (lambda: loose_job(async_generator), "async_generator is a generator: it yields"),
        (lambda: loose_job(generator), "generator is a generator: it yields"),
        (lambda: loose_worker(send_email), "@worker is for a class, .*use @job"),
        (lambda: loose_worker("mailers"), "@worker is for a class, got 'mailers'"),
        (lambda: loose_job(Mailer), "@job is for a function, .*use @worker"),
        (lambda: loose_job("mail"), "@job is for a function with a name, got 'mail'"),
        (lambda: loose_job(functools.partial(send_email)), "a function with a name, got functools"),
        (lambda: loose_job(len), "cannot add `new` to <built-in function len>"),
        (lambda: loose_job(lambda: 1), "a lambda has no name"),
        (lambda: loose_job(staticmethod(send_email)), "put @staticmethod above @job"),
        (lambda: loose_job(variadic), r"@job cannot store \*args: int of .*variadic"),
        (lambda: loose_job(keywords), r"@job cannot store \*\*kwargs: int of .*keywords"),
    ],
)
def test_what_cannot_be_a_worker_is_a_type_error_at_decoration(
    attempt: Callable[[], Any], words: str
) -> None:
    before = dict(registered())
    with pytest.raises(TypeError, match=words):
        attempt()
    assert dict(registered()) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"priority": 10}, "priority is 10"),
        ({"queue": " "}, "queue is ' '"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"tags": "one"}, "tags is 'one'"),
        ({"meta": {"a": object()}}, r"meta\['a'\] is a object"),
        ({"scheduled_at": datetime(2030, 1, 1)}, "names no time zone"),
        ({"schedule_in": "soon"}, "schedule_in is 'soon'"),
    ],
)
def test_a_wrong_value_of_an_option_is_found_at_decoration(
    options: dict[str, Any], words: str
) -> None:
    before = dict(registered())
    with pytest.raises(InvalidJob, match=words):
        worker(**options)(type("Faulty", (), {"__module__": HERE, "process": fine}))
    with pytest.raises(InvalidJob, match=words):
        job(**options)(fine)
    with pytest.raises(InvalidJob, match=words):
        Mailer.options(**options)
    assert dict(registered()) == before


def test_the_none_of_some_options_asks_for_nothing() -> None:
    absent: dict[str, Any] = dict.fromkeys(("timeout", "deadline", "limits", "weight"))
    assert Mailer.new({}, **absent) == Mailer.new({})
    assert callable(worker(**absent))


def test_an_unknown_option_at_the_call_is_a_type_error() -> None:
    wrong: dict[str, Any] = {"prioritty": 1}
    for attempt in (Mailer.new, Mailer.options(queue="x").new, Mailer.enqueue_sync):
        with pytest.raises(TypeError, match="did you mean 'priority'"):
            attempt({}, **wrong)


@pytest.mark.parametrize("name", ["", 5, None])
def test_the_name_of_the_oban_is_text(name: Any) -> None:
    with pytest.raises(InvalidOption, match="it is the name of an Oban"):
        worker(oban=name)


def test_arguments_that_are_no_dict_are_refused() -> None:
    wrong: Any
    for wrong in (5, "text", [1]):
        with pytest.raises(InvalidJob, match="it is a dict that JSON can hold"):
            Mailer.new(wrong)


def test_a_name_too_long_to_store_is_refused_at_decoration() -> None:
    with pytest.raises(InvalidJob, match="at most 127 fit"):
        worker(type("X" * 130, (), {"__module__": HERE, "process": fine}))


# The registry


def test_decorating_the_same_name_again_replaces_the_worker() -> None:
    def make(answer: int) -> Callable[[], int]:
        @job(queue=f"q{answer}")
        def reloaded() -> int:
            return answer

        return reloaded

    first = make(1)
    name = first.new().worker  # type: ignore[attr-defined]
    make(2)
    assert registered()[name].call(Job(worker=name)) == 2
    assert registered()[name].options["queue"] == "q2"


def test_a_local_worker_is_known_in_this_process_until_it_is_forgotten() -> None:
    @worker
    class Local(Worker):
        def process(self, job: Job) -> None: ...

    name = Local.new().worker
    assert name.endswith(
        "test_a_local_worker_is_known_in_this_process_until_it_is_forgotten.<locals>.Local"
    )
    assert name in registered()
    forget(name)
    forget(name)
    assert name not in registered()


def test_the_registry_is_read_only_from_outside() -> None:
    with pytest.raises(TypeError):
        registered()["x"] = definition(Mailer)  # type: ignore[index]


# The running program

PROGRAM = """
from oban import Oban
from oban.worker import job, Worker, worker

class Printer(Oban):
    def enqueue_many_sync(self, *jobs, conn=None, notify=True):
        self.insertion(jobs, notify)
        print("ENQUEUED", *(job.worker for job in jobs))
        return list(jobs)

Printer(pool="dbname=nowhere")

@worker
class Mailer(Worker):
    def process(self, job): pass

@job
def send(): pass

print("BUILT", Mailer.new().worker)
Mailer.enqueue_sync()
send.enqueue_sync()
"""


def run(folder: Path, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize(
    ("file", "command", "module"),
    [
        ("app.py", ["app.py"], "app"),
        ("deep/app.py", ["deep/app.py"], "app"),
        ("deep/app.py", ["-m", "deep.app"], "deep.app"),
        ("package/__main__.py", ["-m", "package"], "package.__main__"),
        ("deep/app.py", ["-P", "deep/app.py"], "deep.app"),
    ],
)
def test_a_worker_of_the_running_program_is_stored_under_its_importable_name(
    tmp_path: Path, file: str, command: list[str], module: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(PROGRAM)
    done = run(tmp_path, *command)
    assert done.stdout.splitlines() == [
        f"BUILT {module}.Mailer",
        f"ENQUEUED {module}.Mailer",
        f"ENQUEUED {module}.send",
    ], done.stderr


@pytest.mark.parametrize("way", ["-c", "-", "a-script.py", "folder"])
def test_a_worker_of_a_program_without_a_name_is_refused_at_enqueue(
    tmp_path: Path, way: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/__main__.py").write_text(PROGRAM)
    (tmp_path / "a-script.py").write_text(PROGRAM)
    command = ["-c", PROGRAM] if way == "-c" else [way]
    done = run(tmp_path, *command, stdin=PROGRAM if way == "-" else "")
    assert done.stdout.splitlines() == ["BUILT __main__.Mailer"]
    assert "InvalidJob: worker is '__main__.Mailer'" in done.stderr
    assert "move the worker to a module of its own" in done.stderr


# Instances


def test_an_older_instance_has_its_name_again_when_the_newer_is_gone() -> None:
    old, new = Ledger("Twice"), Ledger("Twice")
    for each in (old, new, new):
        instances.register(each)
    instances.unregister(new)
    assert instances.get("Twice") is old
    instances.unregister(old)
    with pytest.raises(InstanceNotFound):
        instances.get("Twice")


def test_the_newest_instance_of_a_name_wins_and_an_older_one_only_removes_itself() -> None:
    old, new = Ledger("Twice"), Ledger("Twice")
    instances.register(old)
    instances.register(new)
    instances.unregister(old)
    assert instances.get("Twice") is new
    instances.unregister(new)
    instances.unregister(new)
    with pytest.raises(InstanceNotFound):
        instances.get("Twice")


async def test_enqueueing_without_an_instance_says_which_there_are(ledger: Ledger) -> None:
    @worker(oban="Missing")
    class Lost(Worker):
        def process(self, job: Job) -> None: ...

    with pytest.raises(InstanceNotFound, match=r"no Oban named 'Missing' .* these do: 'Oban'"):
        await Lost.enqueue()
    instances.unregister(ledger)
    with pytest.raises(InstanceNotFound, match="none does"):
        Lost.enqueue_sync()


async def test_the_testing_mode_holds_in_its_context_and_in_what_it_starts() -> None:
    assert instances.testing_mode() is None
    seen: list[instances.Mode | None] = []
    with instances.override_testing_mode("manual"):
        with instances.override_testing_mode("inline"):
            assert instances.testing_mode() == "inline"
            assert await asyncio.to_thread(instances.testing_mode) == "inline"
            task = asyncio.create_task(asyncio.sleep(0, instances.testing_mode()))
            plain = threading.Thread(target=lambda: seen.append(instances.testing_mode()))
            plain.start()
            plain.join()
        assert instances.testing_mode() == "manual"
    assert await task == "inline"
    assert instances.testing_mode() is None
    assert seen == [None]


def test_the_testing_mode_may_be_left_in_another_context() -> None:
    override = instances.override_testing_mode("inline")
    contextvars.copy_context().run(override.__enter__)
    override.__exit__(None, None, None)
    assert instances.testing_mode() is None


def test_another_testing_mode_is_refused() -> None:
    wrong: Any = "fast"
    with (
        pytest.raises(InvalidOption, match="it is 'inline' or 'manual'"),
        instances.override_testing_mode(wrong),
    ):
        pass
