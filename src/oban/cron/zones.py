"""The time zone of a name, or a refusal that says which name is nearest."""

from datetime import UTC, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

from oban.errors import InvalidOption


def zone_named(name: object) -> tzinfo:
    """Raises InvalidOption for everything that names no zone, paths included."""
    hint = ""
    if isinstance(name, str):
        if name == "UTC":
            return UTC  # known where no time zone data is installed, too
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # unknown; a path; a folder, too long for a file
            hint = advice(name)
    raise InvalidOption(
        f"timezone is {name!r:.80}; it is the name of a time zone, such as 'Europe/London'{hint}"
    )


def advice(name: str) -> str:
    known = {zone.lower(): zone for zone in available_timezones()}
    if not known:
        return "; no time zone data is installed here: pip install tzdata"
    written = name[:80].strip().lower().replace(" ", "_")
    nearest = get_close_matches(written, known, n=1, cutoff=0.5)
    return "".join(f"; did you mean {known[zone]!r}?" for zone in nearest)
