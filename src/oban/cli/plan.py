"""What `oban start` will run, decided before anything is opened."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from oban.cli.options import require_dsn
from oban.cli.workers import Workers
from oban.configuration import EMBEDDED, Configuration
from oban.errors import ConfigurationError
from oban.options import QueueOptions


@dataclass(frozen=True, slots=True)
class Plan:
    configuration: Configuration
    app_dir: Path
    workers: Workers

    def warnings(self) -> Iterator[str]:
        yield from self.configuration.notices
        yield from self.workers.warnings()
        if not self.workers.names:
            places = self.configuration.options.worker_modules or [str(self.app_dir)]
            yield (
                f"no workers found in {', '.join(places)}: nothing decorated with @worker or @job; "
                "--app-dir and --modules say where to look"
            )

    @property
    def embedded(self) -> bool:
        return self.configuration.dsn == EMBEDDED


def complete(loaded: Configuration, *, attended: bool) -> Configuration:
    """Fill in what development can do without.

    Without a DSN a person gets the embedded server, and without queues that server runs `default`.
    A service gets a ConfigurationError instead: one whose variables were forgotten must not run an
    empty queue.
    """
    if loaded.dsn is None:
        if not attended:
            require_dsn(loaded)
        sources = {**loaded.sources, "dsn": "no DSN, on a terminal"}
        loaded = replace(loaded, dsn=EMBEDDED, sources=sources)
    if not loaded.options.queues:
        if loaded.dsn != EMBEDDED:
            raise ConfigurationError("\n".join((NO_QUEUES, *loaded.notices)))
        options = replace(loaded.options, queues={"default": QueueOptions()})
        sources = {**loaded.sources, "queues.default.limit": "the embedded server's default"}
        loaded = replace(loaded, options=options, sources=sources)
    return loaded


NO_QUEUES = (
    "no queues are configured, so there is nothing to run; name them and their limits:\n"
    "  --queues default:10,mailers:5\n"
    "  OBAN_QUEUES=default:10,mailers:5 in the environment\n"
    "  [queues] in oban.toml, or [tool.oban.queues] in pyproject.toml, with default = 10"
)
