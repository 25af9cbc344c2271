"""A thread with a loop of its own, for what must go on while a worker blocks the main one."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Final

#: Seconds that leaving may take: a database that is away must not keep a process from stopping.
LEAVING: Final = 2.0


class SideThread:
    """Runs `work` on a daemon thread from `open` until `close`.

    `work` gets a callback to be called once when all is up, and the event that asks it to end.
    """

    def __init__(
        self, name: str, work: Callable[[Callable[[], None], asyncio.Event], Awaitable[None]]
    ) -> None:
        self.name = name
        self.work = work
        self.loop: asyncio.AbstractEventLoop | None = None
        self.leave: asyncio.Event | None = None
        self.up: asyncio.Future[None] | None = None
        self.ended: asyncio.Event | None = None

    async def open(self) -> None:
        """Return when the work says that it is up; raise what it failed with before that."""
        main = asyncio.get_running_loop()
        self.up, self.ended = main.create_future(), asyncio.Event()
        # A daemon: one that waits for a database must not hold the end of the program.
        threading.Thread(target=self.serve, args=(main,), name=self.name, daemon=True).start()
        await self.up

    def serve(self, main: asyncio.AbstractEventLoop) -> None:
        assert self.up is not None
        assert self.ended is not None
        up, ended = self.up, self.ended
        error: BaseException | None = None
        try:
            asyncio.run(self.live(lambda: tell(main, up, None)))
        except BaseException as raised:  # noqa: BLE001  # it is raised where it is awaited
            error = raised
        tell(main, up, error)
        with contextlib.suppress(RuntimeError):  # the main loop is closed: nobody waits
            main.call_soon_threadsafe(ended.set)

    async def live(self, is_up: Callable[[], None]) -> None:
        self.loop, self.leave = asyncio.get_running_loop(), asyncio.Event()
        await self.work(is_up, self.leave)

    def call(self, function: Callable[[], object]) -> None:
        """Have `function` called on the thread's loop, soon; never once that has ended."""
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(function)

    async def close(self) -> None:
        """Ask the work to end and wait for it, a little."""
        if self.leave is not None:
            self.call(self.leave.set)
        if self.ended is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVING):
                    await self.ended.wait()


def tell(
    main: asyncio.AbstractEventLoop, up: "asyncio.Future[None]", error: BaseException | None
) -> None:
    """Resolve `up` on the main loop, unless it is resolved."""

    def resolve() -> None:
        if up.done():
            return
        if error is None:
            up.set_result(None)
        else:
            up.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the main loop is closed: nobody waits
        main.call_soon_threadsafe(resolve)
