"""Which limits over all nodes leave no room for a job."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from oban.engines.explain import JobFacts, Room
from oban.explaining.words import at_text, command
from oban.explanation import Cause, Code
from oban.limits import MOST_NAMES
from oban.phrases import length_text


def causes(facts: JobFacts) -> list[Cause]:
    """Of each limit the first thing that is in the way."""
    found = (cause_of(facts, room) for room in facts.rooms)
    return [each for each in found if each is not None]


def cause_of(facts: JobFacts, room: Room) -> Cause | None:
    if not room.is_known:
        return unknown(room)
    if room.resting > 0:
        return resting(facts, room)
    if room.slots is not None and room.running >= room.slots:
        return full(room)
    if room.allowed is not None and room.allowed - room.started < min(facts.weight, room.allowed):
        return used_up(facts, room)
    return None


def unknown(room: Room) -> Cause:
    if room.name == TOO_MANY:
        return Cause(
            "unknown_limit",
            f"it names more than {MOST_NAMES} limits, which no job may: it would never start",
            "take some out of its meta.limits, with update_job",
            {"limit": None},
        )
    return Cause(
        "unknown_limit",
        f"it names the limit {room.name}, which no node has ever defined: such jobs wait",
        f'give the nodes limits={{"{room.name}": …}}, or take the name out of its meta.limits',
        {"limit": room.name},
    )


def resting(facts: JobFacts, room: Room) -> Cause:
    until = facts.at + timedelta(seconds=room.resting)
    return Cause(
        "limit_resting",
        f"{called(room)} rests for {length_text(room.resting)} more, until {at_text(until)}: a job "
        "reported back-pressure",
        None,
        {"scope": room.scope, "limit": room.name, "until": until},
    )


#: What `oban_lane` puts in the place of more names than a lane holds.
TOO_MANY: Final = "*too-many*"

FULL: Final[Mapping[str, Code]] = {
    "queue": "global_limit_full",
    "partition": "partition_full",
    "shared": "shared_limit_full",
}


def full(room: Room) -> Cause:
    assert room.slots is not None
    more = 2 * room.slots
    if room.scope == "shared":
        scaling = command("limits", "scale", room.name, "--global-limit", more)
    else:
        scaling = command("queues", "scale", room.name, "--global-limit", more)
    return Cause(
        FULL[room.scope],
        f"{called(room)} is full: {room.running:,} of {room.slots:,} run on all nodes together",
        f"{scaling} raises it",
        {
            "scope": room.scope,
            "limit": room.name,
            "running": room.running,
            "global_limit": room.slots,
        },
    )


def used_up(facts: JobFacts, room: Room) -> Cause:
    assert room.allowed is not None
    wait = room.reopens_in or 0.0
    until = facts.at + timedelta(seconds=wait)
    within = length_text(room.period or 0.0)
    needs = f", and it takes {facts.weight:,}" if facts.weight > 1 else ""
    return Cause(
        "rate_used",
        f"the rate of {called(room)} is used up: {room.started:,} of {room.allowed:,} started "
        f"within {within}{needs}; there is room again in {length_text(wait)}",
        None,
        {
            "scope": room.scope,
            "limit": room.name,
            "started": room.started,
            "allowed": room.allowed,
            "period": room.period,
            "weight": facts.weight,
            "until": until,
        },
    )


def called(room: Room) -> str:
    match room.scope:
        case "queue":
            return f"the limit of queue {room.name}"
        case "partition":
            return f"the limit of its partition of queue {room.name}"
        case "shared":
            return f"the shared limit {room.name}"
