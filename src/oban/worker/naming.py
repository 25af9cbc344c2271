"""The name a worker is stored under, and the name `import` gives to a file."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from oban.errors import InvalidJob

#: The running program, and what multiprocessing calls it in a spawned child.
MAIN_MODULES: Final = ("__main__", "__mp_main__")


def stored_name(module: str, qualname: str) -> str:
    """`module.qualname`, where the running program goes by the name others import it under.

    A program that has no such name (a REPL, a notebook, `python -c`) keeps `__main__`: its
    workers run in this process and `require_importable` refuses to enqueue them.
    """
    if module in MAIN_MODULES:
        module = main_module_name(module) or module
    return f"{module}.{qualname}"


def require_importable(worker: str) -> None:
    """Raise InvalidJob for a worker that no other process could find."""
    if worker.partition(".")[0] in MAIN_MODULES:
        raise InvalidJob(
            f"worker is {worker!r}, and the running program has no name that another process "
            "could import it by; move the worker to a module of its own, such as workers.py, "
            "and import it from there"
        )


def main_module_name(module: str) -> str | None:
    main = sys.modules.get(module)
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # `python -m name`, or a folder with a `__main__.py`, which has no name
        return None if spec.name in MAIN_MODULES else str(spec.name)
    file = getattr(main, "__file__", None)
    if file is None or not Path(file).is_file():
        return None
    return module_name(Path(file), search_folders()) or module_name(Path(file), [Path.cwd()])


def search_folders() -> list[Path]:
    """The folders that `import` looks through."""
    return [Path(entry).resolve() for entry in sys.path]


def module_name(file: Path, folders: Iterable[Path]) -> str | None:
    """The name that `import` gives to `file`, None when it has none.

    Of several folders that hold the file the innermost counts, so with both the project and its
    `src` on the path a file there has one name.
    """
    file = file.resolve()
    holding = [folder for folder in folders if file.is_relative_to(folder)]
    if not holding or file.suffix != ".py":
        return None
    parts = file.relative_to(max(holding, key=lambda each: len(each.parts))).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else None
