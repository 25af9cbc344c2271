"""An event as one line of JSON."""

import json
import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any

from oban.telemetry.events import Metadata
from oban.telemetry.plain import bounded, described, job_fields, plain, shortened

DURATIONS = frozenset({"duration", "queue_time"})


def json_line(name: str, level: int, metadata: Metadata, *, args: bool = False) -> str:
    """Return the event as a JSON object on a single line of ASCII, whatever the metadata holds.

    First `time`, `level` and `event`, then the job's fields beside the metadata. Durations are in
    milliseconds. What JSON cannot hold is written as its `repr`.
    """
    fields: Metadata = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": logging.getLevelName(level).lower(),
        "event": name,
    }
    if (job := metadata.get("job")) is not None:
        fields |= job_fields(job, args=args)
    for key, value in metadata.items():
        if key not in {"job", "monotonic_time"}:  # a reading of this process's clock says nothing
            fields.setdefault(key, _shown(key, value))
    try:
        return json.dumps(fields, default=partial(described, args=args), allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # odd keys, NaN or cycles, somewhere inside
        return json.dumps(plain(fields, args=args))


def _shown(key: str, value: Any) -> Any:
    if key in DURATIONS and isinstance(value, int | float):
        return round(value / 1_000_000, 3)
    if key == "jobs" and isinstance(value, dict | list | tuple):
        return bounded(value)
    return shortened(value) if isinstance(value, str) else value
