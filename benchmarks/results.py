"""Results as lines of JSON, each with all that is needed to read it alone."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.catalog import System

FOLDER = Path(__file__).parent / "results"


class BadFile(Exception):
    """A file has no results, or is not for new ones; the text says why."""


@dataclass(frozen=True)
class Result:
    """A measurement and its circumstances."""

    scenario: str
    system: str
    version: str
    repetition: int
    size: str
    #: None where there is none, and then `note` says why.
    figure: float | None
    unit: str
    extras: Mapping[str, float]
    note: str
    seconds: float
    postgres: str
    python: str
    machine: Mapping[str, str]
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, line: str) -> "Result":
        return cls(**json.loads(line))


def read(paths: Iterable[Path]) -> list[Result]:
    """Those of all files; an unfinished last line, of a run that was killed, is left out."""
    return [result for path in paths for result in read_file(path)]


def read_file(path: Path) -> list[Result]:
    try:
        lines = path.read_text().splitlines(keepends=True)
        return [Result.parse(line) for line in lines if line.endswith("\n")]
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise BadFile(f"{path} is no file of results: {error}") from error


def require_new(path: Path) -> None:
    if path.exists():
        raise BadFile(
            f"{path} is there already; only ratios within one run count, so a run gets a file of "
            "its own: name another, or remove it"
        )


def new_file() -> Path:
    FOLDER.mkdir(exist_ok=True)
    return FOLDER / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}.jsonl"


def latest_file() -> Path | None:
    return max(FOLDER.glob("*.jsonl"), default=None)


def version_of(system: System) -> str:
    """As its first requirement pins it; ours by its commit."""
    if system.requirements:
        return system.requirements[0].replace("==", "@").rpartition("@")[2]
    return ours() if system.name == "oban" else ""


def ours() -> str:
    """The package's version and the commit it is at, with a plus where files were changed."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        said = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return version("oban")
    return f"{version('oban')} ({said.stdout.strip()})"


def machine() -> dict[str, str]:
    """What can be said of it that explains figures, and nothing that names it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": platform.system(),
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
