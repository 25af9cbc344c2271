"""Rows that the database refuses to change: found, told, and left alone for the good of the others.

Somebody's trigger, index or foreign key can refuse one row, and with it the statement that changes
thousands.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from oban.errors import DataRefused

#: Rows that are looked for in one search; more than a few have a cause that no search mends.
MOST: Final = 100


async def isolate(
    ids: Sequence[int],
    change: Callable[[Sequence[int]], Awaitable[None]],
    tell: Callable[[int, DataRefused], None],
) -> list[int]:
    """Change all that can be changed, by halves; return the ids of those that were refused.

    Each is told. Beyond `MOST` of them the rest is left for the next time, and the refusal raised.
    """
    refused: list[int] = []
    waiting = [list(ids)]
    while waiting:
        part = waiting.pop()
        try:
            if part:
                await change(part)
        except DataRefused as error:
            if len(part) > 1:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
                continue
            tell(part[0], error)
            refused.append(part[0])
            if len(refused) == MOST:
                raise
    return refused
