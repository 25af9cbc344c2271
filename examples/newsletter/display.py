"""What is seen while the issue goes out: a picture on a terminal, plain lines elsewhere."""

from collections import deque
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from examples.newsletter.results import Counts

COLORS = {
    "available": "blue",
    "scheduled": "magenta",
    "retryable": "yellow",
    "executing": "cyan",
    "completed": "green",
    "cancelled": "bright_black",
    "discarded": "red",
}
#: From done to waiting, as the bar grows.
ORDER = ("completed", "cancelled", "discarded", "executing", "retryable", "scheduled", "available")
FEED = 8


class Display(AbstractContextManager["Display"], Protocol):
    def show(self, counts: Counts, seconds: float) -> None:
        """How many jobs there are by queue and state, so long after the start."""

    def tell(self, state: str, line: str) -> None:
        """One job just moved to that state."""


class Picture:
    """Everything at a glance: a bar of all jobs by state, the counts, and what just happened."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.counts: Counts = {}
        self.seconds = 0.0
        self.feed: deque[Text] = deque(maxlen=FEED)

    def show(self, counts: Counts, seconds: float) -> None:
        self.counts, self.seconds = counts, seconds

    def tell(self, state: str, line: str) -> None:
        color = COLORS[state]
        moment = (f"{self.seconds:5.1f} s  ", "dim")
        self.feed.append(Text.assemble(moment, (line, color), no_wrap=True, overflow="ellipsis"))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, 100)
        states = by_state(self.counts)
        yield Panel(
            Group(
                bar(states, width - 6),
                Text(),
                self.table(states),
                Text(),
                *self.feed,
                *(Text() for _ in range(FEED - len(self.feed))),
            ),
            title=Text(self.title, "bold"),
            subtitle=Text(f"{self.seconds:.1f} s", "dim"),
            padding=(1, 2),
            width=width,
            border_style="dim",
        )

    def table(self, states: dict[str, int]) -> Table:
        table = Table.grid(expand=True)
        for _ in COLORS:
            table.add_column(justify="center")
        table.add_row(*(Text(str(states.get(each, 0)), f"bold {COLORS[each]}") for each in COLORS))
        table.add_row(*(Text(each, "dim") for each in COLORS))
        return table


class Terminal:
    """Draws the picture again and again in place; the last one stays."""

    def __init__(self, console: Console, picture: Picture) -> None:
        self.picture = picture
        self.live = Live(picture, console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.live.refresh()
        self.live.stop()

    def show(self, counts: Counts, seconds: float) -> None:
        self.picture.show(counts, seconds)
        self.live.refresh()

    def tell(self, state: str, line: str) -> None:
        self.picture.tell(state, line)


class Lines:
    """A line a second with the counts, for logs and pipes."""

    def __init__(self, console: Console, picture: Picture) -> None:
        self.console = console
        self.picture = picture
        self.next_at = 0.0

    def __enter__(self) -> Self:
        self.console.print(self.picture.title, highlight=False)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.line()

    def show(self, counts: Counts, seconds: float) -> None:
        self.picture.show(counts, seconds)
        if seconds >= self.next_at:
            self.next_at = seconds + 1
            self.line()

    def line(self) -> None:
        states = by_state(self.picture.counts)
        found = ", ".join(f"{states[each]} {each}" for each in COLORS if each in states)
        self.console.print(
            f"{self.picture.seconds:5.1f} s  {found}", highlight=False, soft_wrap=True
        )

    def tell(self, state: str, line: str) -> None:
        self.picture.tell(state, line)


def display(console: Console, picture: Picture) -> Display:
    return (Terminal if console.is_terminal else Lines)(console, picture)


def by_state(counts: Counts) -> dict[str, int]:
    states: dict[str, int] = {}
    for (_, state), count in counts.items():
        states[state] = states.get(state, 0) + count
    return states


def bar(states: dict[str, int], width: int) -> Text:
    """One cell for each share of all jobs; what remains of rounding goes to the last."""
    total = sum(states.values())
    if not total:
        return Text("━" * width, "dim")
    text, seen, drawn = Text(), 0, 0
    for state in ORDER:
        seen += states.get(state, 0)
        upto = width * seen // total
        text.append("━" * (upto - drawn), COLORS[state])
        drawn = upto
    return text
