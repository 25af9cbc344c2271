"""The pages, and the blocks of code in them.

A fence says what its block is by its language and, where it is a file, by a title:

    ```python                       run, after the blocks before it, in the page's own module
    ```python title="app/mail.py"   written to that path, and imported as that module
    ```bash                         each `oban …` in it is a command line that exists
    ```toml title="oban.toml"       a configuration that loads

Two comments, which a reader of the page does not see, stand before a fence:

    <!-- not run: the reason -->    the next block is only compiled
    <!-- prepare
    python code                     run at this place
    -->
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

PIECE = re.compile(
    r"^<!-- prepare\n(?P<prepare>.*?)^-->$"
    r"|^<!-- not run: (?P<reason>[^\n]+) -->$"
    r"|^(?P<indent> *)```(?P<language>\w*)(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
TITLE = re.compile(r'\btitle="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Block:
    page: str
    #: Where its first line stands in the page.
    line: int
    language: str
    code: str
    #: The file it is, if it is one.
    title: str | None = None
    #: Why it cannot be run, if it cannot.
    reason: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def padded(self) -> str:
        """The code on the lines it has in the page, so that a traceback points there."""
        return "\n" * (self.line - 1) + self.code


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text("utf-8")
    reason = None
    for piece in PIECE.finditer(text):
        if piece["reason"] is not None:
            reason = piece["reason"]
            continue
        is_fence = piece["prepare"] is None
        group = "code" if is_fence else "prepare"
        title = TITLE.search(piece["info"] or "")
        yield Block(
            page,
            line=text.count("\n", 0, piece.start(group)) + 1,
            language=piece["language"] if is_fence else "python",
            code=textwrap.dedent(piece[group]),
            title=title[1] if title else None,
            reason=reason,
        )
        reason = None


def prose(page: str) -> str:
    """The page without its code."""
    return PIECE.sub("", (ROOT / page).read_text("utf-8"))


def titled(page: str, title: str) -> str:
    """The content of the file that a page shows."""
    (code,) = (block.code for block in blocks(page) if block.title == title)
    return code
