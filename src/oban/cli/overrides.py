"""What was commanded of a node's queues, as it is told when the node starts."""

from collections.abc import Iterator

from oban.engines.commands import EVERY
from oban.oban import Oban
from oban.phrases import length_text, moment_text


def overrides(oban: Oban) -> Iterator[str]:
    """What was commanded of the queues that differs from the configuration, and since when."""
    control = oban.running_node.control if oban.running_node else None
    applied = control.applied if control else {}
    for (queue, aspect), intent in applied.items():
        where = "all nodes" if intent.node == EVERY else f"node {intent.node}"
        until = "" if intent.expires_in is None else f", for {length_text(intent.expires_in)} more"
        yield (
            f"queue {queue}: {aspect} is {str(intent.value).lower()} by a command to {where} at "
            f"{moment_text(intent.set_at)}{until}; `oban queues reset {queue}` forgets it"
        )
