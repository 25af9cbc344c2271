"""From a class or a function, and the options of its decorator, to the definition of a worker."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from oban.callables import is_async, refuse_generator
from oban.errors import InvalidOption
from oban.job import Job
from oban.periodic import parse_all
from oban.vault import require_unguessable
from oban.worker.arguments import Arguments
from oban.worker.definition import Definition, clean_aliases
from oban.worker.execution import clean_place, clean_timeout
from oban.worker.hooks import clean_hooks, own_hooks
from oban.worker.jobs import FunctionJobs
from oban.worker.layers import hooked
from oban.worker.naming import stored_name
from oban.worker.options import settle
from oban.worker.policy import clean_policy
from oban.worker.typed import TypedArgs, args_type


def class_definition(
    cls: type, base: type, options: Mapping[str, Any], own: Mapping[str, Any]
) -> Definition:
    """`options` are those of its jobs, `own` what is the worker's alone to say.

    Between the brackets of `base` among its bases stands what the arguments are.
    """
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
    common = shared(name, process, options, own)
    call = method(cls, name, "process")
    if own_hooks(name, cls, of_async=is_async(process)):
        call = hooked(cls, of_async=is_async(process))
    backoff = None if getattr(cls, "backoff", None) is None else method(cls, name, "backoff")
    typed = None
    entries = parse_all(name, own["cron"])
    if (kind := args_type(cls, base)) is not None:
        typed = TypedArgs(name, kind, private=bool(own.get("encrypted")))
        call = typed.around(call, is_async=is_async(process))
        backoff = None if backoff is None else typed.around_backoff(backoff)
        for entry in entries:
            typed.stored(entry.args)
    return Definition(**common, call=call, backoff=backoff, typed=typed, cron=entries)


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
    function: Any, options: Mapping[str, Any], own: Mapping[str, Any]
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
    arguments = Arguments(function, name, private=bool(own.get("encrypted")))

    def call(job: Job) -> Any:
        values, keywords = arguments.spread(job.args)
        return function(*values, **keywords)

    common = shared(name, function, options, own)
    definition = Definition(**common, call=call, cron=parse_all(name, own["cron"]))
    for entry in definition.cron:
        arguments.check(entry.args)
    return FunctionJobs(definition, arguments)


def shared(
    name: str, code: object, options: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """What a definition says of either kind of worker."""
    return {
        "name": name,
        "options": settle(name, of_jobs(options)),
        "oban": own["oban"],
        "is_async": is_async(code),
        "executor": clean_place(name, own.get("executor"), is_async=is_async(code)),
        "timeout": clean_timeout(options.get("timeout")),
        "hooks": clean_hooks(f"hooks of {name}", own.get("hooks")),
        "policy": clean_policy(name, own),
        "aliases": clean_aliases(name, own.get("aliases")),
        "encrypted": clean_encrypted(name, own.get("encrypted"), options),
    }


def clean_encrypted(worker: str, given: object, options: Mapping[str, Any]) -> bool:
    if given is not None and not isinstance(given, bool):
        raise InvalidOption(f"encrypted of {worker} is {given!r:.80}; it is True or False")
    if given:
        require_unguessable(Job(worker=worker, unique=options.get("unique")))
    return bool(given)


def of_jobs(options: Mapping[str, Any]) -> dict[str, Any]:
    """What each job is to carry: the worker's own timeout is known wherever its code is."""
    return {name: value for name, value in options.items() if name != "timeout"}
