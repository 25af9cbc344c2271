"""The fault a test arms: a connection ends before a statement is sent, or before its reply."""

import asyncio
from collections.abc import Callable
from typing import Literal

Where = Literal["send", "reply"]
Predicate = Callable[[str], bool]


class Cut:
    """End the first `times` connections on which a statement satisfies the predicate.

    The predicate gets the SQL text once per execution, as long as firings are left.
    """

    def __init__(self, where: Where, predicate: Predicate, *, times: int = 1) -> None:
        if times < 1:
            raise ValueError(f"times is {times}, a cut fires at least once")
        self.times = times
        self.fired_count = 0
        self._where = where
        self._predicate = predicate
        self._left = times
        self._next = asyncio.Event()

    async def fired(self, count: int | None = None, *, timeout: float = 10.0) -> None:
        """Wait until `count` connections were cut, all of its `times` unless given.

        The server has seen the end of those connections by then, the client may not have yet.
        """
        wanted = self.times if count is None else count
        try:
            async with asyncio.timeout(timeout):
                while self.fired_count < wanted:
                    await self._next.wait()
        except TimeoutError:
            raise TimeoutError(
                f"the cut fired {self.fired_count} of {wanted} times in {timeout} s"
            ) from None

    def disarm(self) -> None:
        """Let everything pass from now on."""
        self._left = 0

    def concerns(self, where: Where, sql: str) -> bool:
        return self._where == where and self._left > 0 and self._predicate(sql)

    def take(self) -> bool:
        """Use up one firing, if one is left."""
        if self._left == 0:
            return False
        self._left -= 1
        return True

    def record(self) -> None:
        """Count a firing that is done and wake who waits for it."""
        self.fired_count += 1
        self._next.set()
        self._next = asyncio.Event()
