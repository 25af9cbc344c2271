"""Commanding queues, on one node or on all of them, from anywhere."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from oban.client import Client
from oban.engines.commands import EVERY, Aspect, Commandable, Intent
from oban.engines.nodes import KnownProducer
from oban.errors import InvalidOption
from oban.limits import LimitInfo, clean_limit_name
from oban.options import QueueOptions
from oban.part import check, check_name
from oban.running.producer import QueueInfo


class QueueControl(Client):
    """Each command is stored before it is told, and holds until a newer one or a `reset`.

    Without `node` it is for every node that runs queues, those that start later included. A node
    obeys within one heartbeat, also when it hears nothing. Clients without queues obey nothing.
    """

    async def pause_queue(
        self, queue: str, *, node: str | None = None, until: datetime | timedelta | None = None
    ) -> None:
        """Claim no more of its jobs; those that run go on. It resumes by itself at `until`."""
        await self.command(clean_queue(queue), node, {"paused": True}, until)

    async def resume_queue(self, queue: str, *, node: str | None = None) -> None:
        await self.command(clean_queue(queue), node, {"paused": False})

    async def pause_all_queues(
        self, *, node: str | None = None, until: datetime | timedelta | None = None
    ) -> None:
        await self.command(EVERY, node, {"paused": True}, until)

    async def resume_all_queues(self, *, node: str | None = None) -> None:
        await self.command(EVERY, node, {"paused": False})

    async def scale_queue(
        self,
        queue: str,
        limit: int | None = None,
        *,
        global_limit: int | None = None,
        rate_limit: int | Mapping[str, float] | None = None,
        node: str | None = None,
    ) -> None:
        """Run up to `limit` of its jobs at once in each process that runs the queue.

        Or up to `global_limit` on all nodes together, or start no more than `rate_limit` says, as
        in the options of a queue. What is not given stays as it is.
        """
        given = {"limit": limit, "global_limit": global_limit, "rate_limit": rate_limit}
        wanted = {name: value for name, value in given.items() if value is not None}
        if not wanted:
            raise InvalidOption(f"scale_queue is given nothing to scale; give {', '.join(given)}")
        await self.command(clean_queue(queue), node, clean(wanted))

    async def start_queue(
        self,
        queue: str,
        limit: int | None = None,
        paused: bool | None = None,
        *,
        node: str | None = None,
    ) -> None:
        """Run the queue, also where it is not configured.

        The limit and whether it is paused stay what they are, or what the configuration says,
        unless they are given.
        """
        given = {"limit": limit, "paused": paused}
        options = clean({name: value for name, value in given.items() if value is not None})
        await self.command(clean_queue(queue), node, {"running": True, **options})

    async def stop_queue(self, queue: str, *, node: str | None = None) -> None:
        """Run the queue no more; its jobs may finish within the grace period of a shutdown."""
        await self.command(clean_queue(queue), node, {"running": False})

    async def reset_queue(self, queue: str, *, node: str | None = None) -> int:
        """Forget what was commanded of the queue: the configuration holds again. How much it was.

        With `node` only what was commanded of that node is forgotten.
        """
        return await self.forget_commands(clean_queue(queue), node)

    async def reset_all_queues(self, *, node: str | None = None) -> int:
        return await self.forget_commands(EVERY, node)

    async def scale_limit(
        self,
        name: str,
        *,
        global_limit: int | None = None,
        rate_limit: int | Mapping[str, float] | None = None,
    ) -> None:
        """Let another limit hold for all jobs that name it, from now on and on all nodes.

        What is not given stays as it is. It holds until it is scaled again or reset, whatever nodes
        that start say. Raises `InvalidOption` for a limit that no node has.
        """
        given = {"global_limit": global_limit, "rate_limit": rate_limit}
        wanted = {each: value for each, value in given.items() if value is not None}
        if not wanted:
            raise InvalidOption(f"scale_limit is given nothing to scale; give {', '.join(given)}")
        clean_limit_name(name)
        if not await self.engine.execute(self.engine.scale_limit(name, clean(wanted))):
            known = [each.name for each in await self.list_limits()]
            raise InvalidOption(
                f"no node has a limit named {name!r}; there are: {', '.join(known) or 'none'}"
            )

    async def reset_limit(self, name: str) -> bool:
        """Let what the nodes say of the limit hold again; return whether something else did."""
        return await self.engine.execute(self.engine.reset_limit(clean_limit_name(name)))

    async def list_limits(self) -> list[LimitInfo]:
        """The limits that queues share, and how much of each is used just now."""
        return await self.engine.execute(self.engine.shared_limits())

    async def list_commands(self) -> list[Intent]:
        """What was commanded and still holds, the oldest first."""
        return await self.engine.execute(self.engine.intents(self.name))

    async def list_queues(self) -> list[QueueInfo]:
        """What each queue does on each node, as the last heartbeats told.

        One that fell silent is among them until its jobs are rescued.
        """
        return queue_infos(await self.engine.execute(self.engine.known_producers()))

    async def pause_cron(self, entry: str) -> bool:
        """Let the slots of a cron entry pass without a job; return whether there is such an entry.

        It holds on all nodes, and after restarts, until `resume_cron`; slots that have passed
        meanwhile are not caught up with.
        """
        return await self.engine.execute(self.engine.pause_entry(self.name, entry, paused=True))

    async def resume_cron(self, entry: str) -> bool:
        return await self.engine.execute(self.engine.pause_entry(self.name, entry, paused=False))

    async def command(
        self,
        queue: str,
        node: str | None,
        aspects: Mapping[Aspect, Commandable],
        until: datetime | timedelta | None = None,
    ) -> None:
        target = EVERY if node is None else check_name("node", node)
        await self.engine.execute(
            self.engine.command(self.name, queue, target, aspects, clean_until(until))
        )

    async def forget_commands(self, queue: str, node: str | None) -> int:
        return await self.engine.execute(self.engine.reset(self.name, queue, node))


def clean_queue(queue: object) -> str:
    if queue == EVERY:
        raise InvalidOption(
            f"queue is {EVERY!r}, which names no queue; pause_all_queues, resume_all_queues and "
            "reset_all_queues are for all of them"
        )
    return check_name("queue", queue)


def clean(options: Mapping[str, Any]) -> dict[Aspect, Commandable]:
    """Values that a queue's options may have, as they are stored. Raises InvalidOption."""
    cleaned = check(QueueOptions, QueueOptions.path, options)
    if rate := cleaned.get("rate_limit"):
        cleaned["rate_limit"] = asdict(rate)
    return cleaned  # type: ignore[return-value]  # of these names


def clean_until(until: datetime | timedelta | None) -> datetime | None:
    if until is None:
        return None
    now = datetime.now(UTC)
    try:
        moment = now + until if isinstance(until, timedelta) else until
    except OverflowError:
        raise InvalidOption(f"until is {until} from now, which no calendar reaches") from None
    if not isinstance(moment, datetime):
        raise InvalidOption(f"until is {until!r:.80}; it is {UNTIL}")
    if moment.tzinfo is None:
        raise InvalidOption(f"until is {moment}, without a time zone; it is {UNTIL}")
    if moment <= now:
        raise InvalidOption(f"until is {moment}, which is in the past; it is {UNTIL}")
    return moment


UNTIL: Final = "an aware datetime in the future, or a timedelta such as timedelta(hours=2)"


def queue_infos(producers: Iterable[KnownProducer]) -> list[QueueInfo]:
    """Of those that were heard of, or whose jobs are still to be rescued."""
    return [
        queue_info(each) for each in producers if each.beat_age is not None or each.running_count
    ]


def queue_info(producer: KnownProducer) -> QueueInfo:
    """What is known of it; a record without a heartbeat tells little."""
    told = producer.meta
    running = told.get("running")
    return QueueInfo(
        limit=int(told.get("limit") or 0),
        meta={
            **told,
            "beat_age": producer.beat_age,
            "alive": producer.alive,
            "name": producer.identity.name,
        },
        node=producer.identity.node,
        paused=bool(told.get("paused")),
        queue=producer.identity.queue,
        running=list(running) if isinstance(running, list) else [],
        started_at=producer.started_at or datetime.now(UTC),
        uuid=producer.identity.uuid,
    )
