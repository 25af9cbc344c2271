"""A real SMTP server that answers as the world does: it takes, refuses and puts off."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Self

from aiosmtpd.smtp import SMTP, Envelope, Session

HOST = "127.0.0.1"

#: What a domain answers; every other domain takes every mail.
BOUNCES = "bounce.example"  # refused each time: there is no such mailbox
GREYLISTS = "greylist.example"  # "come back later" the first time
OVERLOADED = "busy.example"  # "too busy", and it hangs up, the first time


@dataclass(frozen=True, slots=True)
class Received:
    recipient: str
    message_id: str


@dataclass(slots=True)
class MailServer:
    """Listens on a free local port while its `async with` lasts and keeps what it accepted.

    An answer to a recipient takes about `delay` seconds, as over a network.
    """

    delay: float
    received: list[Received] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    address: str = ""
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    server: asyncio.Server = field(init=False)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(self.session, HOST, 0)
        port = self.server.sockets[0].getsockname()[1]
        self.address = f"{HOST}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()

    def session(self) -> SMTP:
        return SMTP(self, hostname="mail.example", enable_SMTPUTF8=True)

    # The hooks of aiosmtpd, by the names it calls them

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        await asyncio.sleep(self.delay * self.chance.uniform(0.5, 1.5))
        self.tries[address] += 1
        first = self.tries[address] == 1
        domain = address.rpartition("@")[2].lower()
        if domain == BOUNCES:
            return "550 5.1.1 no such mailbox"
        if domain == GREYLISTS and first:
            return "451 4.7.1 greylisted, come back later"
        if domain == OVERLOADED and first:
            return "421 4.3.2 too busy, closing the connection"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802  # aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        message_id = message_from_bytes(envelope.content)["Message-ID"]
        for recipient in envelope.rcpt_tos:
            self.received.append(Received(recipient, message_id))
        return "250 accepted for delivery"
