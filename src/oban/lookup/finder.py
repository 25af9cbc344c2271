"""The worker of a row: from the registry, or by an import that no row can turn against us."""

import keyword
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from oban.errors import InvalidOption, UnknownWorker
from oban.fields import MAX_NAME_LENGTH
from oban.lookup.location import Application, Located, import_module, locate
from oban.worker import Definition, registered, worker_named

#: How long a negative answer holds, in seconds, and how many are remembered.
REMEMBERED_FOR: Final = 30.0
REMEMBERED: Final = 10_000


class WorkerFinder:
    """Finds the worker that a row names.

    A worker that is registered is found at once. Else the module of `a.b.C` is imported, if its
    file lies under the application's root (`app_dir`, or the working directory), or in the
    package of a worker that is registered. With `worker_modules` only those modules, and the
    modules inside them, are imported, wherever they lie.
    """

    def __init__(
        self,
        app_dir: Path | None = None,
        worker_modules: Sequence[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.application = Application(app_dir)
        self.worker_modules = None if worker_modules is None else checked(worker_modules)
        self.unknown = Refusals(clock)
        self.broken = Refusals(clock)

    def find(self, name: str) -> Definition:
        """Return the worker of that name. Raises UnknownWorker with the reason.

        A negative answer is remembered for half a minute, so that a flood of rows costs one
        search; a worker registered meanwhile is found all the same.
        """
        known = worker_named(name)
        if known is not None:
            return known
        parts = dotted(name)
        if (reason := self.unknown.get(name)) is not None:
            raise UnknownWorker(reason)
        try:
            return self.search(name, parts)
        except UnknownWorker as refusal:
            self.unknown.add(name, str(refusal))
            raise

    def search(self, name: str, parts: Sequence[str]) -> Definition:
        module = self.load(name, parts)
        known = worker_named(name)
        if known is None:
            raise UnknownWorker(
                f"{name} is no worker: {module} is imported and registers none of that name; "
                "is it decorated with @worker or @job, and defined in that module?"
            )
        return known

    def load(self, name: str, parts: Sequence[str]) -> str:
        """Import the module the worker lies in, if that is allowed, and return its name."""
        steps = list(locate(parts[:-1]))
        while steps and steps[-1].file is None and not steps[-1].imported:
            steps.pop()  # a namespace package holds no worker
        if not steps:
            raise UnknownWorker(
                f"{name} is unknown: sys.path has no module {parts[0]}; is the folder it lies in "
                "the working directory, or given as the application's?"
            )
        module = steps[-1].name
        if steps[-1].imported:
            return module
        self.require_allowed(name, [step for step in steps if not step.imported])
        cause, failure = None, self.broken.get(module)
        if failure is None and (cause := import_module(module)) is not None:
            failure = f"{type(cause).__name__}: {cause}"
            self.broken.add(module, failure)
        if failure is not None:
            raise UnknownWorker(
                f"{name} is unknown: importing {module} raised {failure}"
            ) from cause
        return module

    def require_allowed(self, name: str, steps: Sequence[Located]) -> None:
        """Raise UnknownWorker unless every file that the import would run is allowed to."""
        module = steps[-1].name
        if steps[-1].file == running_file():
            raise UnknownWorker(f"{name} is unknown: {module} is the running program itself")
        if self.worker_modules is not None:
            if not any(inside(module, each) for each in self.worker_modules):
                raise UnknownWorker(
                    f"{name} is unknown: {module} is not among worker_modules "
                    f"({', '.join(self.worker_modules)})"
                )
            return
        for step in steps:
            if step.file and not (self.application.holds(step.file) or in_package_of_worker(step)):
                raise UnknownWorker(
                    f"{name} is unknown: {step.name} lies at {step.file}, which is not the "
                    f"application's, under {self.application.root}, and not in the package of a "
                    "worker that is imported. If it is yours, import it where Oban starts or "
                    "name it in worker_modules"
                )


class Refusals:
    """Reasons by name, each held for a while. Bounded: when full it starts anew."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.reasons: dict[str, tuple[float, str]] = {}

    def get(self, name: str) -> str | None:
        until, reason = self.reasons.get(name, (0.0, ""))
        return reason if self.clock() < until else None

    def add(self, name: str, reason: str) -> None:
        if len(self.reasons) >= REMEMBERED:
            self.reasons.clear()
        self.reasons[name] = (self.clock() + REMEMBERED_FOR, reason)


def dotted(name: str) -> list[str]:
    """The parts of a name. Raises UnknownWorker for what cannot be `module.worker`."""
    if len(name) > MAX_NAME_LENGTH:
        raise UnknownWorker(f"{name!r:.40} is unknown: at most {MAX_NAME_LENGTH} characters fit")
    parts = name.split(".")
    if len(parts) < 2 or not all(map(is_name, parts)):
        raise UnknownWorker(
            f"{name!r} is unknown: it is not registered and no `module.worker` that could be "
            "imported"
        )
    return parts


def is_name(part: str) -> bool:
    return part.isidentifier() and not keyword.iskeyword(part)


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def checked(worker_modules: Sequence[str]) -> list[str]:
    names = [worker_modules] if isinstance(worker_modules, str) else list(worker_modules)
    for name in names:
        if isinstance(worker_modules, str) or not all(map(is_name, name.split("."))):
            raise InvalidOption(
                f"worker_modules is {worker_modules!r}; it is a list of modules or packages, "
                "such as ['app.workers']"
            )
    return names


def running_file() -> Path | None:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return None if file is None else Path(file).resolve()


def in_package_of_worker(step: Located) -> bool:
    """Whether the file lies in a package of which a worker is registered.

    The package is the outermost with a file of its own: a namespace is shared with strangers.
    """
    assert step.file is not None
    parts = step.name.split(".")
    packages = (".".join(parts[:depth]) for depth in range(1, len(parts)))
    package = next((each for each in packages if has_file(each)), None)
    if package is None or not any(name.startswith(package + ".") for name in registered()):
        return False
    folders = getattr(sys.modules[package], "__path__", ())
    return any(step.file.is_relative_to(Path(folder).resolve()) for folder in folders)


def has_file(module: str) -> bool:
    return getattr(sys.modules.get(module), "__file__", None) is not None
