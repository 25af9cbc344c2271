"""Whether anybody runs the queue of a job, and has a slot for it."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

from oban.engines.commands import EVERY, Intent
from oban.engines.explain import JobFacts, Runner
from oban.explaining.words import at_text, command, named, since
from oban.explanation import Cause
from oban.phrases import counted, length_text, listed
from oban.running.control import newest

#: Seconds that an event loop may be late before somebody is told.
LATE: Final = 1.0


def at_work(facts: JobFacts) -> list[Runner]:
    """Who runs the queue, and does not stop just now."""
    return [each for each in facts.runners if each.alive and not is_leaving(each)]


def is_leaving(runner: Runner) -> bool:
    return bool(runner.known.meta.get("shutdown_started_at"))


def is_paused(runner: Runner) -> bool:
    return runner.known.meta.get("paused") is True


def node_of(runner: Runner) -> str:
    return runner.known.identity.node


def obstacles(facts: JobFacts) -> list[Cause]:
    """Why nobody claims any job of the queue, if that is so."""
    working = at_work(facts)
    if not working:
        return unclaimed(facts)
    if all(map(is_paused, working)):
        return [paused(facts, working, everywhere=True)]
    return []


def unclaimed(facts: JobFacts) -> list[Cause]:
    """By a command, or since nobody is there; one for a single node tells nothing of the others."""
    halt = stopped(facts)
    if halt is None:
        return [unmanned(facts)]
    is_for_one = halt.details["node"] is not None
    return [halt, unmanned(facts)] if is_for_one and facts.living_queues else [halt]


def stopped(facts: JobFacts) -> Cause | None:
    queue = facts.job.queue
    commands = [
        each
        for intents in facts.intents.values()
        for node in {each.node for each in intents}
        if (each := newest(intents, queue, node, "running")) and each.value is False
    ]
    if not commands:
        return None
    last = max(commands, key=lambda each: each.version)
    where = "on all nodes" if last.node == EVERY else f"on node {last.node}"
    return Cause(
        "queue_stopped",
        f"queue {queue} was stopped {where} by a command, {said_when(facts, last)}",
        start_advice(facts, last),
        {"queue": queue, **command_details(last)},
    )


def start_advice(facts: JobFacts, stop: Intent) -> str:
    queue = facts.job.queue
    start = command("queues", "start", queue, *node_option([stop]))
    if facts.living_queues:
        return start
    # A node all of whose queues are stopped shows nowhere, and so does one that is down.
    return f"{start}; no node runs any queue now: see that one is up, `{start_node(queue)}`"


def node_option(commands: Sequence[Intent]) -> list[str]:
    """The node that all of them are for, if there is one."""
    nodes = {each.node for each in commands}
    return ["--node", *nodes] if len(nodes) == 1 and EVERY not in nodes else []


def command_details(intent: Intent) -> dict[str, object]:
    return {
        "node": None if intent.node == EVERY else intent.node,
        "all_queues": intent.queue == EVERY,
        "set_at": intent.set_at,
        "expires_in": intent.expires_in,
    }


def said_when(facts: JobFacts, intent: Intent) -> str:
    return f"{since(facts, intent.set_at)} ago, at {at_text(intent.set_at)}"


def unmanned(facts: JobFacts) -> Cause:
    queue = facts.job.queue
    seen = [each for each in facts.runners if each.known.beat_age is not None]
    seen.sort(key=lambda each: each.known.beat_age or 0.0)
    near = get_close_matches(queue, [each for each in facts.living_queues if each != queue])
    others = f"; nodes run {listed(facts.living_queues, 5)}" if facts.living_queues else ""
    text = f"no node runs queue {queue}{last_seen(seen) or others}"
    if not facts.living_queues:
        advice = f"no node is alive at all: start one, as with `{start_node(queue)}`"
    elif near:
        advice = (
            f"is {near[0]} meant? Otherwise start a node for it, or let those that are there run "
            f"it: {command('queues', 'start', queue)}"
        )
    else:
        advice = (
            f"start a node with `{start_node(queue)}`, or let those that are there run it: "
            f"{command('queues', 'start', queue)}"
        )
    return Cause(
        "no_node",
        text,
        advice,
        {
            "queue": queue,
            "last_nodes": [node_of(each) for each in seen],
            "silent_for": [each.known.beat_age for each in seen],
            "living_queues": list(facts.living_queues),
            "near": near,
        },
    )


def start_node(queue: str) -> str:
    if queue.startswith("-"):
        return command("start", f"--queues={queue}:10")
    return command("start", "--queues", f"{queue}:10")


def last_seen(seen: Sequence[Runner]) -> str:
    if not seen:
        return ""
    last = seen[0]
    if last.alive:
        return f": {node_of(last)}, which does, is shutting down"
    silence = length_text(last.known.beat_age or 0.0)
    more = f", and {counted(len(seen) - 1, 'other')} before" if len(seen) > 1 else ""
    return f": {node_of(last)}, which did last, has been silent for {silence}{more}"


def paused(facts: JobFacts, runners: Sequence[Runner], *, everywhere: bool) -> Cause:
    queue = facts.job.queue
    commands = [each for runner in runners if (each := pausing(facts, runner))]
    where = "all nodes that run it" if everywhere else "some of its nodes"
    nodes = named(node_of(each) for each in runners)
    text = f"queue {queue} is paused on {where} ({nodes})"
    last = max(commands, key=lambda each: each.version, default=None)
    if last is None:
        text += ", by their configuration or by a node of another package"
    else:
        of_all = " for all queues" if last.queue == EVERY else ""
        text += f", by a command{of_all} {said_when(facts, last)}"
        if last.expires_in is not None:
            text += f"; it resumes by itself in {length_text(last.expires_in)}"
    return Cause(
        "queue_paused",
        text,
        command("queues", "resume", queue, *node_option(commands)),
        {
            "queue": queue,
            "nodes": list(dict.fromkeys(node_of(each) for each in runners)),
            "everywhere": everywhere,
            "commanded": last is not None,
            **(command_details(last) if last else {}),
        },
    )


def pausing(facts: JobFacts, runner: Runner) -> Intent | None:
    """The command that it obeys."""
    identity = runner.known.identity
    intents = facts.intents.get(identity.name, ())
    intent = newest(intents, identity.queue, identity.node, "paused")
    return intent if intent and intent.value is True else None


def partly_paused(facts: JobFacts) -> list[Cause]:
    working = at_work(facts)
    resting = [each for each in working if is_paused(each)]
    if not resting or len(resting) == len(working):
        return []
    return [paused(facts, resting, everywhere=False)]


def full(facts: JobFacts) -> list[Cause]:
    """No slot is free on any node that claims."""
    claiming = [each for each in at_work(facts) if not is_paused(each)]
    limits = [limit_of(each) for each in claiming]
    busy = [each.known.running_count for each in claiming]
    if not claiming or any(
        limit is None or count < limit for limit, count in zip(limits, busy, strict=True)
    ):
        return []
    queue = facts.job.queue
    total = sum(limit for limit in limits if limit is not None)
    longest = max(claiming, key=lambda each: each.longest_for or 0.0)
    where = names(claiming)
    running = min(sum(busy), total)  # by its row, what is claimed ahead of a slot runs as well
    text = f"all slots of queue {queue} are busy: {running:,} of {total:,} run on {where}"
    advice = command("queues", "scale", queue, 2 * max(limit for limit in limits if limit))
    if longest.longest_id is not None:
        age = length_text(longest.longest_for or 0.0)
        text += f"; job {longest.longest_id} the longest, for {age}"
        advice = f"{command('explain', longest.longest_id)} tells of that job; {advice} adds slots"
    details = {
        "queue": queue,
        "running": running,
        "limit": total,
        "longest_id": longest.longest_id,
        "longest_for": longest.longest_for,
    }
    return [Cause("slots_busy", text, advice, details)]


def reserved(facts: JobFacts) -> list[Cause]:
    """All nodes that claim rest for the sake of one job, whichever queue that is in."""
    claiming = [each for each in at_work(facts) if not is_paused(each)]
    suspects = [each.known.meta.get("suspect") for each in claiming]
    if not claiming or not all(type(each) is int for each in suspects):
        return []
    first = suspects[0]
    text = (
        f"{names(claiming)} claims nothing while job {first} runs alone, or waits to: processes "
        "died while they ran it"
    )
    details = {"nodes": [node_of(each) for each in claiming], "job_ids": suspects}
    advice = f"{command('explain', first)} tells of that job; another node goes on without it"
    return [Cause("node_reserved", text, advice, details)]


def names(runners: Iterable[Runner]) -> str:
    return named(node_of(each) for each in runners)


def limit_of(runner: Runner) -> int | None:
    """Its slots, None where it does not say: another package may call them otherwise."""
    limit = runner.known.meta.get("limit")
    return limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None


def hindered(facts: JobFacts) -> list[Cause]:
    """What makes the nodes that run the queue slow to claim."""
    working = at_work(facts)
    causes = blocked(working)
    deaf = [each for each in working if each.known.meta.get("polling")]
    if deaf and len(deaf) == len(working):
        reason = str(deaf[0].known.meta["polling"])
        causes.append(
            Cause(
                "polling",
                f"{names(deaf)} hears no notifications ({reason}) and looks by itself: "
                "jobs start up to a second later",
                "a listen_dsn that leads past the pooler lets it hear them",
                {"nodes": [node_of(each) for each in deaf], "reason": reason},
            )
        )
    return causes


def blocked(runners: Sequence[Runner]) -> list[Cause]:
    late = [each for each in runners if lag_of(each) >= LATE]
    if not late:
        return []
    worst = max(map(lag_of, late))
    return [
        Cause(
            "loop_blocked",
            f"code blocks the event loop of {names(late)}, for {worst:.1f} s: nothing else goes on",
            "its log names the job; let blocking code be a `def`, or run in a process",
            {"nodes": [node_of(each) for each in late], "seconds": worst},
        )
    ]


def lag_of(runner: Runner) -> float:
    lag = runner.known.meta.get("loop_lag")
    return float(lag) if isinstance(lag, int | float) else 0.0
