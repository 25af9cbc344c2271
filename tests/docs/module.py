"""One page as a program: its blocks run in order, in one module, on one event loop."""

import ast
import asyncio
import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

from tests.docs.pages import Block

from oban.worker import forget, registered

#: Files that are pytest's to import.
PYTEST = ("conftest", "test_")


class PageModule:
    """A page's own module; what its blocks define, the next ones see.

    A block that awaits runs on the event loop. One that does not is sync code, and runs on a
    thread without a loop, where the `_sync` calls work.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.module = ModuleType(name)
        self.folder = folder
        self.modules_before = set(sys.modules)
        self.workers_before = set(registered())
        sys.modules[name] = self.module

    async def run(self, block: Block) -> None:
        if block.title is not None:
            self.write(block.title, block.code)
            if block.title.endswith(".py") and not Path(block.title).name.startswith(PYTEST):
                importlib.import_module(block.title.removesuffix(".py").replace("/", "."))
            return
        code = compile(
            block.padded,
            block.page,
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, vars(self.module))
        else:
            await asyncio.to_thread(exec, code, vars(self.module))

    def write(self, title: str, text: str) -> None:
        file = self.folder / title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        importlib.invalidate_caches()

    def forget(self) -> None:
        """Leave no module and no worker behind for the next page."""
        for name in set(registered()) - self.workers_before:
            forget(name)
        new = set(sys.modules) - self.modules_before
        # All of them first: the path of a namespace package is asked from its parent.
        for name in [each for each in new if is_under(sys.modules[each], self.folder)]:
            del sys.modules[name]
        del sys.modules[self.module.__name__]


def is_under(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    paths = [file] if file else list(getattr(module, "__path__", ()))
    return any(Path(path).resolve().is_relative_to(folder.resolve()) for path in paths)
