"""The configuration of a program: a file, then the environment, then arguments.

Later wins, key by key: tables merge, so `OBAN_QUEUES=mailers:5` changes the limit of the file's
`mailers` and leaves its other options and the other queues alone. Each value is checked where it
was found, and a wrong one is a ConfigurationError naming that place.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from oban.dsn import EMBEDDED, mask_dsn
from oban.errors import ConfigurationError, InvalidOption
from oban.options import Options, PoolOptions
from oban.part import P, parse
from oban.settings import (
    KEYS,
    ProgramOptions,
    from_arguments,
    from_environment,
    from_file,
)

__all__ = ["EMBEDDED", "Configuration", "load", "mask_dsn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All that was configured, valid as a whole. Its `repr` shows no connection string."""

    #: A connection string, `embedded`, or None when nobody gave one.
    dsn: str | None = field(repr=False)
    options: Options
    pool: PoolOptions
    cron_modules: tuple[str, ...]
    cron_paths: tuple[str, ...]
    #: Where each key that was given comes from: a file, a variable or an argument.
    sources: Mapping[str, str]
    #: What looks like a mistake but cannot be proven to be one, each a sentence for a person.
    notices: tuple[str, ...]

    @property
    def dsn_source(self) -> str | None:
        return self.sources.get("dsn")

    def require_dsn(self) -> str:
        """The DSN of a server that runs already. Raises ConfigurationError when none is named."""
        if self.dsn is None or self.dsn == EMBEDDED:
            got = "no DSN is configured" if self.dsn is None else "the configured DSN is `embedded`"
            raise ConfigurationError(
                f"{got}; pass one to create_pool(), set OBAN_DSN, or write "
                '`dsn = "postgresql://..."` into oban.toml (a server is started only by '
                "`oban start --embedded` and by oban.embedded.start())"
            )
        return self.dsn


def load(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    arguments: Mapping[str, object] = MappingProxyType({}),
    cwd: Path | None = None,
) -> Configuration:
    """Read what is configured: the file, then the environment, then `arguments`.

    The file is `path`, else `oban.toml` in `cwd`, else `[tool.oban]` of the `pyproject.toml`
    there, else none. Arguments go by the names of the file's keys; None and blank variables count
    as not given. Raises ConfigurationError.
    """
    notices: list[str] = []
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in (
        *from_file(path, cwd or Path.cwd(), notices),
        *from_environment(environ, notices),
        *from_arguments(arguments),
    ):
        setting.check()
        put(values, setting.path, setting.value)
        sources[".".join(setting.path)] = setting.source
    try:
        program = build(ProgramOptions, values)
        pool = build(PoolOptions, values)
        options = build(Options, values)
    except InvalidOption as error:
        # Each value is valid alone: what is wrong is a pair, and either half may be a default.
        named = [f"; {key} is from {each}" for key, each in sources.items() if key in str(error)]
        raise ConfigurationError(f"{error}{''.join(named)}") from None
    return Configuration(
        dsn=program.dsn,
        options=options,
        pool=pool,
        cron_modules=program.cron_modules,
        cron_paths=program.cron_paths,
        sources=sources,
        notices=tuple(notices),
    )


def put(values: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Set the value at `path`; an empty table leaves what stands there alone."""
    *tables, last = path
    for table in tables:
        values = values.setdefault(table, {})
    if value == {}:
        values.setdefault(last, {})
    else:
        values[last] = value


def build(part: type[P], values: Mapping[str, object]) -> P:
    own = {key.removeprefix(part.path): each for key, each in values.items() if KEYS[key] is part}
    return parse(part, part.path, own)
