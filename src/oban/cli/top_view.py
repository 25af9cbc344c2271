"""How `oban top` shows what it sees: fitted to a terminal, as a report, or as a document."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from oban.cli.job_table import state_text
from oban.cli.looker import Look
from oban.cli.terminal import flat, one_line
from oban.dsn import mask_dsn
from oban.job import Job
from oban.looking.paces import Pace
from oban.looking.processes import Process
from oban.looking.queues import QueueRow
from oban.phrases import span_text
from oban.schema import SchemaStatus
from oban.states import JobState

T = TypeVar("T")

#: Seconds after which a count is told to be old, and a wait to be long.
OLD: Final = 10.0
LONG: Final = 60.0
#: Columns that a text is cut to before others give way.
LEAST_TEXT: Final = 24
NO_PACE: Final = Pace(0, 0)
#: How the state of a queue looks.
STYLES: Final[Mapping[str, str]] = {
    "running": "green",
    "paused": "yellow",
    "partly paused": "yellow",
    "silent": "red",
    "not run": "dim",
}


class Column(NamedTuple):
    name: str
    #: The higher, the sooner it is left out.
    rank: int
    is_number: bool = True


QUEUE_COLUMNS: Final = (
    Column("queue", 0, is_number=False),
    Column("state", 6, is_number=False),
    Column("running", 1),
    Column("available", 2),
    Column("oldest", 3),
    Column("per min", 4),
    Column("errors per min", 5),
)
JOB_COLUMNS: Final = (
    Column("running", 0),
    Column("job", 2),
    Column("worker", 1, is_number=False),
    Column("queue", 4, is_number=False),
    Column("node", 3, is_number=False),
    Column("attempt", 5, is_number=False),
)
#: What queues are sorted by, those with most first.
SORTS: Final[Mapping[str, Callable[[QueueRow, Pace], float]]] = {
    "name": lambda _row, _pace: 0,
    "available": lambda row, _: row.counts.get(JobState.AVAILABLE, 0),
    "oldest": lambda row, _: row.lag or 0,
    "running": lambda row, _: row.running,
    "rate": lambda _, pace: pace.ended,
    "errors": lambda _, pace: pace.failed,
}


@dataclass(frozen=True, slots=True)
class Shown:
    """What is looked at, and how somebody wants to see it."""

    place: SchemaStatus
    sort: str = "name"
    #: What is said beside: that it rests, or why there is nothing new.
    note: str = ""
    trouble: str = ""


def screen(look: Look | None, shown: Shown, width: int, height: int) -> RenderableType:
    """As many lines as there are, and none that is wider."""
    trouble = [line((shown.trouble, "bold red"))] if shown.trouble else []
    if look is None:
        return Group(title(shown), *trouble)
    head = [*header(look, shown), *trouble]
    # Beside rows: two lines of names, a blank one above each, and the keys.
    room = max(0, height - len(head) - 5)
    jobs = min(len(look.slowest), max(room // 2, room - len(look.queues)))
    queues = min(len(look.queues), room - jobs)
    jobs = min(len(look.slowest), room - queues)
    return Group(
        *head,
        "",
        *queue_lines(look, shown.sort, queues, width),
        "",
        *job_lines(look, jobs, width),
        *[""] * (room - queues - jobs),
        keys(shown),
    )


def report(look: Look, place: SchemaStatus, width: int) -> list[RenderableType]:
    """All of it."""
    parts: list[RenderableType] = [*header(look, Shown(place))]
    parts += ["", *queue_lines(look, "name", len(look.queues), width)]
    parts += ["", *job_lines(look, len(look.slowest), width)]
    return parts


def header(look: Look, shown: Shown) -> list[Text]:
    return [title(shown, look), nodes_line(look.processes), states_line(look)]


def title(shown: Shown, look: Look | None = None) -> Text:
    place = shown.place
    pieces: list[str | tuple[str, str]] = [
        ("oban top", "bold"),
        f"  database {flat(place.database)}, schema {flat(place.prefix)}",
    ]
    if look is not None:
        leads = f"leader {flat(look.leader)}" if look.leader else "nobody leads"
        pieces += ["  ", (leads, "" if look.leader else "yellow")]
        pieces += [(f"  {look.at:%H:%M:%S} UTC", "dim")]
    return line(*pieces)


def nodes_line(found: Sequence[Process]) -> Text:
    living = nodes(each for each in found if each.is_alive)
    silent = {
        name: own
        for name, own in nodes(each for each in found if not each.is_alive).items()
        if name not in living
    }
    pieces: list[str | tuple[str, str]] = [
        ("nodes  ", "dim"),
        (f"{len(living)} alive", "green" if living else "yellow"),
    ]
    if silent:
        pieces += [", ", (f"{len(silent)} silent", "red")]
    for name, own in living.items():
        running, limit = sum(each.running for each in own), sum(each.limit for each in own)
        many = f" in {len(own)} processes" if len(own) > 1 else ""
        pieces.append(f"  {flat(name)} {running:,}/{limit:,}{many}")
    for name, own in silent.items():
        ages = [each.beat_age for each in own if each.beat_age is not None]
        since = f" {span_text(min(ages), 1)}" if ages else ""
        pieces += ["  ", (f"{flat(name)} silent{since}", "red")]
    return line(*pieces)


def nodes(found: Iterable[Process]) -> dict[str, list[Process]]:
    by_name: dict[str, list[Process]] = {}
    for each in found:
        by_name.setdefault(each.node, []).append(each)
    return by_name


def states_line(look: Look) -> Text:
    states = look.census.states
    order = [*JobState, *sorted(set(states) - set(JobState))]
    text = line(("jobs   ", "dim"), "about  " if look.census.is_estimate else "")
    shown = [
        Text.assemble(f"{states[state]:,} ", state_text(state))
        for state in order
        if states.get(state)
    ]
    text.append_text(Text("  ").join(shown) if shown else Text("none"))
    if look.census.age > OLD:
        text.append(f"  counted {span_text(look.census.age, 1)} ago", "dim")
    return text


def line(*pieces: str | tuple[str, str]) -> Text:
    return Text.assemble(*pieces, no_wrap=True, overflow="ellipsis")


def queue_lines(look: Look, sort: str, most: int, width: int) -> list[RenderableType]:
    """A line of names, and so many more."""
    if not look.queues:
        return [line(("no queues", "dim"))]
    key = SORTS[sort]
    rows = sorted(
        look.queues, key=lambda row: key(row, look.paces.get(row.name, NO_PACE)), reverse=True
    )
    shown, rest = cut(rows, most)
    return [table(QUEUE_COLUMNS, [queue_cells(row, look) for row in shown], width), *rest]


def queue_cells(row: QueueRow, look: Look) -> list[Text]:
    pace = look.paces.get(row.name)
    return [
        one_line(row.name),
        Text(row.state, STYLES[row.state]),
        Text(f"{row.running:,}/{row.limit:,}" if row.living else ""),
        Text(available_text(row, look)),
        Text(span_text(row.lag), "yellow" if (row.lag or 0) > LONG else ""),
        Text(f"{pace.ended:,.0f}" if pace else ""),
        Text(f"{pace.failed:,.0f}", "red" if pace.failed else "") if pace else Text(),
    ]


def available_text(row: QueueRow, look: Look) -> str:
    """Nothing where only all jobs together are known, and about how many."""
    if not row.counts and look.census.is_estimate:
        return ""
    return f"{row.counts.get(JobState.AVAILABLE, 0):,}"


def job_lines(look: Look, most: int, width: int) -> list[RenderableType]:
    """The same of the slowest jobs."""
    if not look.slowest:
        return [line(("no job runs", "dim"))]
    shown, rest = cut(look.slowest, most)
    return [table(JOB_COLUMNS, [job_cells(job, look) for job in shown], width), *rest]


def job_cells(job: Job, look: Look) -> list[Text]:
    return [
        Text(span_text(running_for(job, look)), "bold"),
        Text(str(job.id)),
        one_line(job.worker),
        one_line(job.queue),
        one_line(next(iter(job.attempted_by), "")),
        Text(f"{job.attempt}/{job.max_attempts}"),
    ]


def table(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> Table:
    """A line for each row. Columns for which there is no place are left out, and texts are cut."""
    kept = sorted(range(len(columns)), key=lambda at: columns[at].rank)
    widths = [
        min(
            max([len(column.name), *(cells[at].cell_len for cells in rows)]),
            width if column.is_number else LEAST_TEXT,
        )
        for at, column in enumerate(columns)
    ]
    while len(kept) > 1 and sum(widths[at] + 2 for at in kept) - 2 > width:
        kept.pop()
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for at in sorted(kept):
        column = columns[at]
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        # The table narrows those that could be wrapped; their texts are cut instead.
        made.add_column(one_line(column.name), justify=justify, no_wrap=column.is_number)
    for cells in rows:
        made.add_row(*(cells[at] for at in sorted(kept)))
    return made


def cut(rows: Sequence[T], most: int) -> tuple[Sequence[T], list[RenderableType]]:
    """Those that there are lines for, one of which tells how many there are besides."""
    if len(rows) <= most:
        return rows, []
    kept = max(0, most - 1)
    told = line((f"… {len(rows) - kept:,} more", "dim"))
    return rows[:kept], [told] if most else []


def running_for(job: Job, look: Look) -> float | None:
    """Seconds since its attempt began, by one clock."""
    began = job.attempted_at
    return None if began is None else max(0.0, (look.at - began).total_seconds())


def keys(shown: Shown) -> Text:
    text = line(("q", "bold"), " quit  ", ("p", "bold"), " pause  ", ("s", "bold"))
    text.append(f" sort: {shown.sort}")
    if shown.note:
        text.append(f"  {shown.note}", "yellow")
    return text


def document(look: Look, place: SchemaStatus, dsn: str) -> dict[str, Any]:
    return {
        "at": look.at,
        "dsn": mask_dsn(dsn),
        "database": place.database,
        "prefix": place.prefix,
        "leader": look.leader,
        "states": dict(look.census.states),
        "is_estimate": look.census.is_estimate,
        "processes": [
            {
                "node": each.node,
                "name": each.name,
                "alive": each.is_alive,
                "leads": each.leads,
                "beat_age": each.beat_age,
                "started_at": each.started_at,
                "running": each.running,
                "limit": each.limit,
                "queues": [producer.identity.queue for producer in each.producers],
            }
            for each in look.processes
        ],
        "queues": [queue_document(row, look.paces.get(row.name)) for row in look.queues],
        "slowest": [
            {
                "id": job.id,
                "worker": job.worker,
                "queue": job.queue,
                "node": next(iter(job.attempted_by), None),
                "attempt": job.attempt,
                "running_for": running_for(job, look),
            }
            for job in look.slowest
        ],
    }


def queue_document(row: QueueRow, pace: Pace | None) -> dict[str, Any]:
    return {
        "queue": row.name,
        "state": row.state,
        "running": row.running,
        "limit": row.limit,
        "counts": dict(row.counts),
        "oldest": row.lag,
        "per_minute": None if pace is None else pace.ended,
        "errors_per_minute": None if pace is None else pace.failed,
    }
