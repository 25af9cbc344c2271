"""Who may do what: a user has a role, and each role may do what the ones before it may."""

import base64
import binascii
import hmac
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import Final

from starlette.requests import HTTPConnection

from oban.errors import InvalidOption


class Role(IntEnum):
    #: Sees everything, changes nothing.
    READ = 1
    #: Cancels, retries and runs jobs; pauses, resumes and scales queues.
    OPERATE = 2
    #: Edits and deletes jobs, starts and stops queues.
    ADMIN = 3

    @classmethod
    def named(cls, name: object) -> "Role":
        try:
            return cls[str(name).upper()]
        except KeyError:
            raise InvalidOption(f"role is {name!r:.40}; it is read, operate or admin") from None


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: Role


#: What tells who asks: a user, the name of a role or a role for somebody without a name, None for
#: nobody.
Answer = User | Role | str | None
Auth = Callable[[HTTPConnection], Answer | Awaitable[Answer]]

#: Headers that a proxy adds: behind one, everybody comes from this machine.
FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class BasicAuth:
    """Users by name, each with a password and a role: `BasicAuth({"ada": ("secret", "admin")})`.

    Raises InvalidOption for an empty password or an unknown role. Give it HTTPS.
    """

    def __init__(self, users: Mapping[str, tuple[str, str | Role]]) -> None:
        self.users = {}
        for name, (password, role) in users.items():
            if not name or not password or ":" in name:
                raise InvalidOption(
                    f"user {name!r:.40} has no name or no password, or a colon in its name"
                )
            known = role if isinstance(role, Role) else Role.named(role)
            self.users[name] = (password.encode(), known)

    def __call__(self, asker: HTTPConnection) -> User | None:
        scheme, _, given = asker.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        wanted, role = self.users.get(name, (b"\0 nobody's", Role.READ))
        is_right = hmac.compare_digest(wanted, password.encode())
        return User(name, role) if is_right and name in self.users else None


def only_here(asker: HTTPConnection) -> User | None:
    """Everything for who sits at this machine, nothing for others: what holds without `auth`.

    A request that has come through a proxy, or to another name than this machine's own, as when a
    page of somebody else's asks for it, is not from here.
    """
    host = asker.headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if any(each in asker.headers for each in FORWARDED) or name.lower() not in LOCAL_NAMES:
        return None
    try:
        is_local = asker.client is not None and ip_address(asker.client.host).is_loopback
    except ValueError:
        is_local = False
    return User("local", Role.ADMIN) if is_local else None


async def user_of(auth: Auth, asker: HTTPConnection) -> User | None:
    answer = auth(asker)
    found = await answer if inspect.isawaitable(answer) else answer
    match found:
        case None | User():
            return found
        case Role():
            return User("", found)
        case str():
            return User("", Role.named(found))
        case _:
            raise InvalidOption(
                f"auth returned {found!r:.80}; it returns a User, a role, or None for nobody"
            )
