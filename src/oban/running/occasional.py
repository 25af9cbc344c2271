"""A connection for what is rarely done: open while it is used, closed right after."""

from typing import TypeVar

from oban.engines.base import Session
from oban.engines.operation import Operation

T = TypeVar("T")


class OccasionalSession:
    """Carries out each operation on a connection of its own; see `engines.base.Session`."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def execute(self, operation: Operation[T]) -> T:
        try:
            return await self.session.execute(operation)
        finally:
            await self.session.close()

    async def close(self) -> None:
        await self.session.close()
