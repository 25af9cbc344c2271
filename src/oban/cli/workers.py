"""Making an application importable and its workers known."""

import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import oban
from oban.cli.failures import Failed, WrongUsage
from oban.configuration import Configuration
from oban.errors import ConfigurationError
from oban.lookup import Discovery, discover, import_all
from oban.worker import registered

PACKAGE: Final = Path(oban.__file__).parent


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers this process knows, and what was found but could not be used."""

    names: tuple[str, ...]
    #: Why a file or module is passed over, by its name.
    passed_over: Mapping[str, str]

    def warnings(self) -> Iterator[str]:
        for name, reason in self.passed_over.items():
            yield f"{name} is passed over: {reason}"


def application_folder(app_dir: Path | None) -> Path:
    folder = (app_dir or Path.cwd()).resolve()
    if not folder.is_dir():
        raise WrongUsage(f"--app-dir is {app_dir}, which is no folder")
    return folder


def make_importable(app_dir: Path) -> None:
    """Put an application's folder, and its `src/` if it has one, in front of `sys.path`.

    A `src` that is itself a package is left out: its modules would have two names.
    """
    source = app_dir / "src"
    folders = [app_dir]
    if source.is_dir() and not (source / "__init__.py").exists():
        folders.append(source)
    for folder in reversed(folders):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def find_workers(app_dir: Path, loaded: Configuration) -> Workers:
    """Import the modules that hold workers: those under `app_dir`, or among `worker_modules`.

    `cron_modules` and `cron_paths` are looked into as well.

    A module that cannot be imported is passed over, and its jobs go back to the table for nodes
    that know them. One that was named must be there: raises ConfigurationError, or Failed.
    """
    modules = loaded.options.worker_modules
    found = discover(app_dir, modules)
    add_cron(found, loaded)
    errors = {name: described(error) for name, error in import_all(found.modules).items()}
    for name in modules or ():
        if name in found.skipped:
            raise ConfigurationError(f"worker_modules names {name}: {found.skipped[name]}")
        if name in errors:
            raise Failed(f"worker_modules names {name}, which cannot be imported: {errors[name]}")
    return Workers(tuple(sorted(registered())), {**found.skipped, **errors})


def add_cron(found: Discovery, loaded: Configuration) -> None:
    """Look where the published package would look for crontabs."""
    if loaded.cron_modules:
        more = discover(None, loaded.cron_modules)
        for name in loaded.cron_modules:
            if name in more.skipped:
                raise ConfigurationError(f"cron_modules names {name}: {more.skipped[name]}")
        found.modules[:] = sorted({*found.modules, *more.modules})
    for text in loaded.cron_paths:
        path = Path(text)
        if not path.exists():
            raise ConfigurationError(f"cron_paths names {text}, which does not exist")
        named = discover(path if path.is_dir() else path.parent).modules
        if path.is_file():
            named = [module for module in named if module.rpartition(".")[2] == path.stem]
        found.modules[:] = sorted({*found.modules, *named})


def described(error: BaseException) -> str:
    """The error and the line it comes from, in a module that we only wanted to import.

    What our own code raised about a wrong option comes from the line that gave it.
    """
    said = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:
        return said
    theirs = [each for each in frames if not is_ours(each.filename)]
    frame = (theirs or frames)[-1]
    return f"{said} ({frame.filename}, line {frame.lineno})"


def is_ours(filename: str) -> bool:
    """Whether this is code of Oban, of the import itself, or made at run time."""
    return filename.startswith("<") or Path(filename).is_relative_to(PACKAGE)
