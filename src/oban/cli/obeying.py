"""A command to queues as it is carried out: stored, obeyed or not yet, and answered for."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from oban.cli.database import client
from oban.cli.queue_table import differing, is_silent, scope
from oban.cli.terminal import output, printable, say
from oban.configuration import Configuration
from oban.engines.commands import EVERY, Intent
from oban.oban import Oban
from oban.phrases import counted, listed, moment_text
from oban.running.control import newest
from oban.running.producer import QueueInfo

#: Seconds that a command waits for the nodes to obey: a heartbeat, and a little.
OBEYING: Final = 5.0
#: What a queue became that was reset.
RESET: Final = "as configured"

Act = Callable[[Oban], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Answer:
    """How things were once a command was stored, and obeyed or not."""

    #: What the command itself returned.
    result: object
    #: The producers of all nodes that lived before it, and that live now.
    before: Sequence[QueueInfo]
    living: Sequence[QueueInfo]
    #: The commands that hold.
    commands: Sequence[Intent]


def carry_out(
    loaded: Configuration,
    act: Act,
    queue: str,
    node: str | None,
    became: str,
    *,
    pauses: bool = False,
) -> None:
    """Store the command; then wait, a little, until the nodes that live have obeyed."""

    async def command() -> Answer:
        async with client(loaded) as oban:
            before = await living(oban)
            result = await act(oban)
            async with asyncio.timeout(OBEYING * 2):
                return Answer(result, before, *await obeyed(oban, queue, node))

    answer = asyncio.run(command())
    what = "all queues" if queue == EVERY else f"queue {queue}"
    where = "all nodes" if node is None else f"node {node}"
    if became == RESET and answer.result == 0:
        alone = "" if node is None else f" for node {node} alone"
        whom = "them" if queue == EVERY else "it"
        output().print(f"{what}: nothing was commanded of {whom}{alone}", soft_wrap=True)
        tell_who_lives(answer, queue, node)
        return
    more = still_paused(answer, queue, node) if became == "started" and not pauses else ""
    output().print(f"{what}: {became}, on {where}{more}", soft_wrap=True)
    if not concerned([*answer.before, *answer.living], queue, node):
        say("no node runs it now; those that start obey")
    tell_who_lives(answer, queue, node)


def still_paused(answer: Answer, queue: str, node: str | None) -> str:
    """That a queue which was started claims nothing, why, and what would change that."""
    infos = concerned(answer.living, queue, node)
    paused = [info for info in infos if info.paused]
    if infos and not paused:
        return ""
    nodes = [info.node for info in paused] or [EVERY if node is None else node]
    command = newest(answer.commands, queue, nodes[0], "paused")
    if command is not None and command.value:
        why = f"by a command to {scope(command)} at {moment_text(command.set_at)}"
    elif paused:
        why = f"as node {nodes[0]} is configured"
    else:
        return ""
    resume = f"oban queues resume {queue}" + ("" if node is None else f" --node {node}")
    return f", but still paused {why}; `{resume}` resumes it"


def tell_who_lives(answer: Answer, queue: str, node: str | None) -> None:
    """What a name that nobody answers to may have been meant for."""
    infos = [*answer.before, *answer.living]
    nodes, names = {info.node for info in infos}, {info.queue for info in infos}
    if node is not None and node not in nodes:
        say(printable(f"no node {node} lives now; there {known('node', node, nodes)}"))
    if queue not in (EVERY, *names):
        say(printable(f"no queue {queue} runs now; there {known('queue', queue, names)}"))


def known(noun: str, wrong: str, names: Collection[str]) -> str:
    """`are nodes pa, pb; did you mean pb?`."""
    if not names:
        return f"is no {noun}"
    folded = {name.casefold(): name for name in names}
    nearest = get_close_matches(wrong.casefold(), folded, n=1)
    hint = f"; did you mean {folded[nearest[0]]}?" if nearest else ""
    which = f"is {noun}" if len(names) == 1 else f"are {noun}s"
    return f"{which} {listed(sorted(names))}{hint}"


async def living(oban: Oban) -> list[QueueInfo]:
    return [info for info in await oban.list_queues() if not is_silent(info)]


def concerned(infos: Sequence[QueueInfo], queue: str, node: str | None) -> list[QueueInfo]:
    return [info for info in infos if queue in (EVERY, info.queue) and node in (None, info.node)]


async def obeyed(
    oban: Oban, queue: str, node: str | None
) -> tuple[Sequence[QueueInfo], Sequence[Intent]]:
    """How things are then; tells of the nodes that have not obeyed after a heartbeat."""
    ends = asyncio.get_running_loop().time() + OBEYING
    while True:
        commands = await oban.list_commands()
        infos = await living(oban)
        running = {info.node for info in concerned(infos, queue, node)}
        late = {info.node for info in concerned(infos, queue, node) if differing(info, commands)}
        for each in {info.node for info in infos if node in (None, info.node)} - running:
            started = newest(commands, queue, each, "running")
            if started is not None and started.value:
                late.add(each)
        if not late:
            return infos, commands
        if asyncio.get_running_loop().time() >= ends:
            names = ", ".join(sorted(late))
            say(("warning: ", "yellow"), f"not obeyed yet by {counted(len(late), 'node')}: {names}")
            return infos, commands
        await asyncio.sleep(0.1)
