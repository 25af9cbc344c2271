"""The options that many commands share, and what they make of the configuration."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from oban import configuration
from oban.cli.failures import WrongUsage
from oban.configuration import EMBEDDED, Configuration
from oban.errors import ConfigurationError

PANEL = "Configuration"

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Read this TOML file instead of oban.toml or pyproject.toml.",
        rich_help_panel=PANEL,
    ),
]
DsnOption = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="DSN",
        help="The database, as postgresql://user@host/name. [OBAN_DSN]",
        rich_help_panel=PANEL,
    ),
]
EmbeddedOption = Annotated[
    bool,
    typer.Option(
        "--embedded",
        help="Use the PostgreSQL that comes with oban\\[embedded], for development.",
        rich_help_panel=PANEL,
    ),
]
PrefixOption = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        metavar="SCHEMA",
        help="The schema that the tables are in, by default public. [OBAN_PREFIX]",
        rich_help_panel=PANEL,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
GlobalLimitOption = Annotated[
    int | None, typer.Option(help="How many at once on all nodes together.")
]
RateLimitOption = Annotated[
    str | None, typer.Option(help="How many start within so many seconds, as in 60/60.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def configure(
    config: Path | None, dsn: str | None, embedded: bool, prefix: str | None, **arguments: object
) -> Configuration:
    """Load the configuration with these arguments on top. Raises ConfigurationError."""
    if embedded and dsn is not None:
        raise WrongUsage("--embedded and --dsn are both given; give one of them")
    given = {"dsn": EMBEDDED if embedded else dsn, "prefix": prefix, **arguments}
    loaded = configuration.load(config, arguments=given)
    # What was typed, not what it stands for.
    return replace(loaded, sources={**loaded.sources, "dsn": "--embedded"}) if embedded else loaded


def require_dsn(loaded: Configuration) -> str:
    """The DSN that somebody gave. Raises ConfigurationError with the ways to give one."""
    if loaded.dsn is None:
        # A variable that is spelt wrong may be the whole reason.
        raise ConfigurationError("\n".join((WAYS, *loaded.notices)))
    return loaded.dsn


def parse_rate(text: str) -> dict[str, float]:
    """`60/60`: so many within so many seconds."""
    allowed, _, period = text.partition("/")
    try:
        return {"allowed": int(allowed), "period": float(period or 60)}
    except ValueError:
        raise WrongUsage(
            f"--rate-limit is {text!r}; it is how many jobs may start within how many seconds, "
            "as in 60/60"
        ) from None


LENGTHS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_length(text: str) -> int | None:
    """`90s`, `30m`, `2h` or `1d` in seconds, None for anything else."""
    length = re.fullmatch(r"(\d{1,9})([smhd])", text)
    return int(length[1]) * LENGTHS[length[2]] if length else None


WAYS: Final = (
    "no database is configured; give one of:\n"
    "  --dsn postgresql://user:password@host:5432/database\n"
    "  OBAN_DSN=postgresql://… in the environment\n"
    '  dsn = "postgresql://…" in oban.toml, or under [tool.oban] in pyproject.toml\n'
    "  --embedded, which runs a private PostgreSQL for development"
)
