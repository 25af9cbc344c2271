"""Who guesses passwords waits, ever longer, by the address that the guesses come from."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import ip_address
from typing import Final

#: Wrong passwords that cost nothing: people mistype.
FREE: Final = 5
#: Seconds after the next one, doubled with each further one, and at most.
FIRST: Final = 1.0
LONGEST: Final = 60.0
#: Seconds after which an address begins anew.
FORGOTTEN: Final = 900.0
#: Addresses that are remembered, and credentials that were right; the oldest are forgotten first.
MOST: Final = 10_000


@dataclass(slots=True)
class Missed:
    count: int = 0
    last_at: float = 0.0


def home_of(address: str) -> str:
    """Where it belongs to: a home has 2**64 addresses of IPv6, and one of IPv4."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(found.ipv4_mapped or int(found) >> 64)


@dataclass(slots=True)
class Guesses:
    """What was right once is let in at once, so that nobody is shut out by a neighbour's guesses.

    Only digests of it are kept, under a key that is this process's own.
    """

    clock: Callable[[], float] = time.monotonic
    missed: OrderedDict[str, Missed] = field(default_factory=OrderedDict)
    right: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def wait(self, address: str, credentials: str) -> float:
        """Seconds until these are looked at; zero lets them be looked at now."""
        known = self.missed.get(home_of(address))
        if known is None or known.count <= FREE or self.digest(credentials) in self.right:
            return 0.0
        pause = min(LONGEST, FIRST * 2.0 ** min(known.count - FREE - 1, 10))
        return max(0.0, known.last_at + pause - self.clock())

    def were_wrong(self, address: str) -> None:
        now, address = self.clock(), home_of(address)
        known = self.missed.pop(address, None)
        if known is None or now - known.last_at > FORGOTTEN:
            known = Missed()
        self.missed[address] = Missed(known.count + 1, now)
        while len(self.missed) > MOST:
            self.missed.popitem(last=False)

    def were_right(self, credentials: str) -> None:
        """The address goes on waiting: somebody else there may be guessing."""
        digest = self.digest(credentials)
        self.right[digest] = None
        self.right.move_to_end(digest)
        while len(self.right) > MOST:
            self.right.popitem(last=False)

    def digest(self, credentials: str) -> bytes:
        return blake2b(credentials.encode(), key=self.key, digest_size=16).digest()
