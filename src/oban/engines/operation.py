"""What an engine's verbs build, and an engine carries out."""

from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Operation(Generic[T_co]):
    """What is to be done, and what it will return. Opaque above the engine."""

    __slots__ = ()

    name: str
