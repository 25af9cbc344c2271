"""Single values of the configuration, as found in a file, the environment or arguments."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, get_origin

from oban.dsn import EMBEDDED, check_dsn
from oban.errors import ConfigurationError, InvalidOption
from oban.options import OBJECTS, LimitOptions, Options, PoolOptions, QueueOptions
from oban.part import SECRET, TEXT, Part, Rule, check, rules, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramOptions(Part):
    """What a program is told besides the options of its Oban and of its pool."""

    dsn: Annotated[str | None, TEXT, SECRET] = field(default=None, repr=False)
    cron_modules: tuple[str, ...] = ()
    cron_paths: tuple[str, ...] = ()


def is_part(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Part)


def switch_of(kind: object) -> Mapping[bool, Mapping[str, object]]:
    """The tables that true and false stand for."""
    return kind.switch if isinstance(kind, type) and issubclass(kind, Part) else {}


#: Every key, and the part it is an option of.
KEYS: Final[Mapping[str, type[Part]]] = {
    part.path + name: part
    for part in (ProgramOptions, Options, PoolOptions)
    for name in (*rules(part), *part.later)
    if name not in OBJECTS
}
#: The rules of those that this version has.
RULES: Final[Mapping[str, Rule]] = {
    part.path + name: rule
    for part in (ProgramOptions, Options, PoolOptions)
    for name, rule in rules(part).items()
}
#: Options that are code, which workers refer to: no environment changes them.
CODE: Final = frozenset({"name", "resources", "hooks"})
#: The variables that are read.
VARIABLES: Final[Mapping[str, str]] = {
    f"OBAN_{key.upper()}": key
    for key, rule in RULES.items()
    if key not in CODE and (switch_of(rule.kind) or not is_part(rule.kind))
}
#: Options that are tables of what goes together, and so are one value: something in them has no
#: default.
WHOLE: Final = frozenset(
    name
    for part in (QueueOptions, LimitOptions)
    for name, rule in rules(part).items()
    if is_part(rule.kind) and rule.kind.requires()
)
#: How alike a name must be to a known one to be taken for a mistake, out of 1.
NEAR: Final = 0.8


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that somebody gave, and where."""

    source: str
    path: tuple[str, ...]
    value: object = field(repr=False)
    #: The last key as it was written, and the text it was written in, to name the line.
    written: str
    text: str = field(repr=False)

    def check(self) -> None:
        """Raise ConfigurationError, naming the source, unless the value is valid by itself."""
        key, *inner = self.path
        value = self.value
        for name in reversed(inner):
            value = {name: value}
        try:
            if key not in KEYS:
                raise unknown("", key, RULES, KEYS)
            part = KEYS[key]
            check(part, part.path, {key.removeprefix(part.path): value})
            if key in ("dsn", "listen_dsn") and (key, value) != ("dsn", EMBEDDED):
                check_dsn(key, str(value))
        except InvalidOption as error:
            raise ConfigurationError(f"{self.source}{self.line()}: {error}") from None

    def line(self) -> str:
        """Where in the text the key is set, when only one line can be meant."""
        key = re.escape(self.written if self.path[0] in KEYS else self.path[0])
        pattern = re.compile(rf"(?:^|[\[{{,.])\s*[\"']?{key}[\"']?\s*[=.\]]")
        lines = self.text.splitlines()
        found = [number for number, line in enumerate(lines, 1) if pattern.search(line)]
        return f", line {found[0]}" if len(found) == 1 else ""


def settings(source: str, table: Mapping[str, object], text: str = "") -> Iterator[Setting]:
    """One setting for each value in `table`; an empty table is a value too."""
    stack: list[tuple[tuple[str, ...], object]] = [((), table)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, Mapping) and (value or not path) and not is_whole(path):
            stack += reversed([((*path, str(key)), inner) for key, inner in value.items()])
        elif path[0] in COUNTS and len(path) == 2 and not isinstance(value, Mapping):
            limit = (*path, COUNTS[path[0]])
            yield Setting(source, limit, value, written=path[-1], text=text)
        elif isinstance(value, bool) and len(path) == 1 and (switch := switch_at(path[0])):
            for name, inner in switch[value].items():
                yield Setting(source, (*path, name), inner, written=path[-1], text=text)
        else:
            yield Setting(source, path, value, written=path[-1], text=text)


def is_whole(path: Sequence[str]) -> bool:
    """Whether what stands there is not taken apart: `queues.NAME.rate_limit`."""
    return len(path) == 3 and path[0] in COUNTS and path[-1] in WHOLE


def switch_at(key: str) -> Mapping[bool, Mapping[str, object]]:
    return switch_of(RULES[key].kind) if key in RULES else {}


def from_file(path: Path | None, cwd: Path, notices: list[str]) -> Iterator[Setting]:
    """The settings in the file at `path`, or in the one that `cwd` has."""
    for choice in (path,) if path else (Path("oban.toml"), Path("pyproject.toml")):
        file = cwd / choice
        try:
            text = file.read_text(encoding="utf-8")
            document = tomllib.loads(text)
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file} cannot be read: {error}") from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{file} is not valid TOML: {error}") from None
        yield from settings(str(file), table_in(file, document, notices), text)
        return
    if path:
        raise ConfigurationError(f"{cwd / path} does not exist; give the path of a TOML file")


def table_in(file: Path, document: dict[str, Any], notices: list[str]) -> Mapping[str, object]:
    """Our table: `[tool.oban]` of a pyproject.toml, elsewhere `[oban]` or the whole document."""
    if file.name == "pyproject.toml":
        tool = document.get("tool")
        table = tool.get("oban", {}) if isinstance(tool, Mapping) else {}
    else:
        table = document.get("oban", document)
        beside = [] if table is document else [key for key in document if key != "oban"]
        notices += [
            f"{file}: {key} stands beside [oban] and is not read; if it is Oban's, move it there"
            for key in beside
            if get_close_matches(key, KEYS, n=1, cutoff=NEAR)
        ]
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{file}: oban is {table!r:.80}; it is a table of options")
    return table


def from_environment(environ: Mapping[str, str], notices: list[str]) -> Iterator[Setting]:
    """The settings in variables. One that is spelt almost like ours is worth a notice."""
    for name, text in environ.items():
        if not name.startswith("OBAN_") or not text.strip():
            continue
        if key := VARIABLES.get(name):
            yield from settings(name, {key: read(name, key, text)})
        elif nearest := get_close_matches(name, VARIABLES, n=1, cutoff=NEAR):
            notices.append(f"{name} is not read; did you mean {nearest[0]}?")


def from_arguments(arguments: Mapping[str, object]) -> Iterator[Setting]:
    """The settings in arguments, of which text is read as in the environment."""
    for key, value in arguments.items():
        source = f"--{key.replace('_', '-')}"
        if value is not None:
            given = read(source, key, value) if isinstance(value, str) else value
            yield from settings(source, {key: given})


#: Tables of names, and the option that a bare number stands for.
COUNTS: Final[Mapping[str, str]] = {
    "queues": str(QueueOptions.shorthand),
    "limits": str(LimitOptions.shorthand),
}
SWITCHES: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def read(source: str, key: str, text: str) -> object:
    """The value that `text` means for `key`; text that means none stays, and is refused later."""
    if key in COUNTS:
        try:
            return parse_counts(key, text)
        except InvalidOption as error:
            raise ConfigurationError(f"{source}: {error}") from None
    kind = RULES[key].kind if key in RULES else str
    if get_origin(kind) is tuple:
        return tuple(item.strip() for item in text.split(","))
    if kind is bool or switch_of(kind):
        return SWITCHES.get(text.strip().lower(), text)
    try:
        return kind(text.strip()) if kind in (int, float) else text.strip()
    except ValueError:
        return text


def parse_counts(key: str, text: str) -> dict[str, dict[str, int]]:
    """Read `default:10,mailers:5`; a name alone leaves the limit as it is elsewhere.

    Raises InvalidOption for other text and for a name that comes twice. Ranges are not looked at.
    """
    found: dict[str, dict[str, int]] = {}
    for item in text.split(","):
        name, colon, limit = (piece.strip() for piece in item.rpartition(":"))
        if not colon:
            name, limit = limit, ""
        if not name or name in found or (colon and not re.fullmatch("[0-9]{1,9}", limit)):
            raise InvalidOption(
                f"{key} is {text!r:.80}, wrong at {item.strip()!r:.40}; it is names and limits, "
                "each name once, such as default:10,mailers:5"
            )
        found[name] = {COUNTS[key]: int(limit)} if colon else {}
    return found
