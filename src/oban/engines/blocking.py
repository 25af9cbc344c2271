"""What every `_sync` call makes sure of, whatever the database."""

import asyncio

from oban.errors import SyncInsideLoop


def refuse_inside_loop() -> None:
    """Raise SyncInsideLoop on a thread whose event loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SyncInsideLoop(
        "a `_sync` call would block the event loop that runs on this thread; "
        "await the call without `_sync` instead"
    )
