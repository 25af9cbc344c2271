"""Whether this process is the first of its Oban's name to live, as `@reboot` asks."""

from collections.abc import Sequence

from oban.engines.values import Sighting


class Boot:
    """Watches those that were there before us, until one gives a sign of life or all are gone.

    A process that was killed a moment ago has left a heartbeat behind; it goes with its rescue.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.elders: dict[str, float | None] | None = None
        #: None as long as that is open.
        self.first: bool | None = None

    def observe(self, sightings: Sequence[Sighting]) -> None:
        if self.first is not None:
            return
        seen = {
            each.identity.uuid: each.beat_at
            for each in sightings
            if each.identity.name == self.name
        }
        if self.elders is None:
            self.elders = seen
        elif any(seen.get(uuid, before) != before for uuid, before in self.elders.items()):
            self.first = False
            return
        self.elders = {uuid: beat_at for uuid, beat_at in self.elders.items() if uuid in seen}
        if not self.elders:
            self.first = True
