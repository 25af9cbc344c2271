"""Which modules of an application hold workers, read from their source without running it."""

import ast
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from oban.lookup.location import Application, import_module, locate
from oban.worker.naming import module_name, search_folders

#: The decorators by every name they may be imported from.
DECORATORS: Final = frozenset({"oban.worker", "oban.job", "oban.worker.worker", "oban.worker.job"})


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found: modules to import, sorted, and why others are passed over."""

    modules: list[str] = field(default_factory=list)
    #: By file, or by the module that was asked for.
    skipped: dict[str, str] = field(default_factory=dict)


def discover(app_dir: Path | None = None, modules: Sequence[str] | None = None) -> Discovery:
    """Find the modules under the application's root that use `@worker` or `@job`.

    Each is found once, under the name that `sys.path` gives it. With `modules` the search is
    among those modules and packages instead, wherever they lie, and they themselves are found
    whatever they hold. A decorator counts where importing the module applies it: not inside a
    function, and not when it reaches the module by another name than Oban's.
    """
    found = Discovery()
    if modules is None:
        application = Application(app_dir)
        for file in python_files(application.root):
            if application.holds(file):
                look_at(file, found)
    else:
        for module in modules:
            look_into(module, found)
    found.modules[:] = sorted(set(found.modules))
    return found


def import_all(modules: Iterable[str]) -> dict[str, BaseException]:
    """Import each, and return what went wrong with those that could not be."""
    errors = {module: import_module(module) for module in modules}
    return {module: error for module, error in errors.items() if error is not None}


def look_into(module: str, found: Discovery) -> None:
    parts = module.split(".")
    steps = list(locate(parts))
    if len(steps) < len(parts):
        found.skipped[module] = "there is no such module on sys.path"
        return
    found.modules.append(module)
    for folder in steps[-1].folders:
        for file in python_files(Path(folder).resolve()):
            look_at(file, found)


def look_at(file: Path, found: Discovery) -> None:
    """Add the module of this file if it holds workers, or the reason why it cannot be told."""
    try:
        if not holds_workers(file.read_bytes()):
            return
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        found.skipped[str(file)] = f"it cannot be read as Python: {error}"
        return
    name = module_name(file, search_folders())
    if name is None:
        found.skipped[str(file)] = "no folder of sys.path gives it a module name"
    elif (other := imported_file(name)) != file:
        found.skipped[str(file)] = f"importing {name} would import {other or 'nothing'} instead"
    else:
        found.modules.append(name)


def imported_file(name: str) -> Path | None:
    """The file that `import name` imports, or has imported."""
    steps = list(locate(name.split(".")))
    return steps[-1].file if steps and steps[-1].name == name else None


def python_files(root: Path) -> Iterator[Path]:
    """The Python files under `root`, without hidden folders and what links point to."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(each for each in folders if is_searched(Path(folder, each)))
        for each in sorted(files):
            file = Path(folder, each)
            if file.suffix == ".py" and not each.startswith(".") and is_regular(file):
                yield file


def is_searched(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.name not in SEARCHED_NEVER


def is_regular(file: Path) -> bool:
    """Neither a link, which would give a file a second name, nor a pipe, which would not end."""
    return file.is_file() and not file.is_symlink()


SEARCHED_NEVER: Final = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})


def holds_workers(source: bytes) -> bool:
    """Whether importing this source applies one of Oban's decorators to something."""
    if b"oban" not in source:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an escape in a file that is not ours
        tree = ast.parse(source)
    reader = DecoratorReader()
    reader.visit(tree)
    return reader.found


class DecoratorReader(ast.NodeVisitor):
    """Follows what the module calls Oban's names, and looks for them above its definitions."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.found = False

    def visit_Import(self, node: ast.Import) -> None:
        for each in node.names:
            if each.asname is not None:
                self.names[each.asname] = each.name
            else:
                top = each.name.partition(".")[0]
                self.names[top] = top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for each in node.names:
            if each.name == "*" and node.module in ("oban", "oban.worker"):
                self.names.update({"worker": "oban.worker", "job": "oban.job"})
            elif node.level == 0:
                self.names[each.asname or each.name] = f"{node.module}.{each.name}"

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.look_above(node)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.look_above(node)  # and not inside: importing does not run it

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.look_above(node)

    def look_above(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            self.found = self.found or self.full_name(called) in DECORATORS

    def full_name(self, node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{self.full_name(node.value)}.{node.attr}"
        return self.names.get(node.id, "") if isinstance(node, ast.Name) else ""
