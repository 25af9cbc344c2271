"""The newsletter from end to end: PostgreSQL, a mail server, 200 jobs, a report, and what came out.

Nothing needs to be installed or running: PostgreSQL comes with the `embedded` extra.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool
from rich.console import Console

from examples.newsletter import results, subscribers
from examples.newsletter.display import Display, Picture, display
from examples.newsletter.mail_server import MailServer
from examples.newsletter.results import PREFIX, Report, Results
from examples.newsletter.subscribers import Subscriber
from examples.newsletter.summary import export_svg, print_summary
from examples.newsletter.workers import SendIssue, render_report
from oban import Job, Oban, embedded, schema, telemetry
from oban.errors import ObanError
from oban.web import app, serving

ISSUE = 42
FINAL = {"completed", "cancelled", "discarded"}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    console = Console(stderr=options.json)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    try:
        with database(options.dsn, console) as dsn, output(options.output) as folder:
            picture, outcome = asyncio.run(publish(dsn, folder, options, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Stopped; all that was started is shut down.")
        return 130
    except (ObanError, psycopg.Error, OSError) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    if options.svg:
        export_svg(options.svg, picture, outcome, is_embedded=options.dsn is None)
    if options.json:
        sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
    return 0 if outcome.one_to_one else 1


def parse(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser("python -m examples.newsletter", description=__doc__)
    add = parser.add_argument
    add("--subscribers", type=positive, metavar="N", help="make a list of N people (default: 200)")
    add("--limit", type=positive, default=10, help="mails that are sent at once (default: 10)")
    add("--delay", type=float, default=0.5, help="seconds the mail server takes (default: 0.5)")
    add("--dsn", help="use this PostgreSQL, not the embedded one; its schema `newsletter` is reset")
    add("--output", type=Path, metavar="FOLDER", help="where the report goes")
    add("--json", action="store_true", help="print the results as JSON, the rest on stderr")
    add("--svg", type=Path, metavar="FILE", help="save the last picture of the terminal")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


@contextmanager
def database(dsn: str | None, console: Console) -> Iterator[str]:
    if dsn is not None:
        yield dsn
        return
    with console.status("Starting PostgreSQL"):
        server = embedded.start()
    with server:
        yield server.dsn


@contextmanager
def output(folder: Path | None) -> Iterator[Path]:
    """The folder to write to; a temporary one stays only if the demo comes to its end."""
    if folder is not None:
        yield folder
        return
    made = Path(tempfile.mkdtemp(prefix="oban-newsletter-"))
    try:
        yield made
    except BaseException:
        shutil.rmtree(made)
        raise


async def publish(
    dsn: str, folder: Path, options: Namespace, console: Console
) -> tuple[Picture, Results]:
    """Send the issue to everyone and wait for the last of it."""
    end_on_terminate()
    people, left = prepare(folder, options.subscribers)
    await schema.uninstall(dsn, PREFIX)
    await schema.install(dsn, PREFIX)
    queues = {"mailers": options.limit, "reports": 1}
    async with (
        MailServer(options.delay) as mail,
        await Oban.create_pool(dsn) as pool,
        Oban(pool=pool, prefix=PREFIX, queues=queues, shutdown_grace_period=5) as oban,
        serving(app(oban)) as address,
    ):
        console.print(f"The dashboard is at {address}/", style="bold", highlight=False)
        os.environ["NEWSLETTER_SMTP"] = mail.address
        os.environ["NEWSLETTER_UNSUBSCRIBED"] = str(left)
        title = f"Issue {ISSUE} to {len(people)} subscribers, {options.limit} mails at a time"
        picture = Picture(title)
        with display(console, picture) as screen, announced(screen):
            outcome = await Run(pool, screen, folder).send(people, mail)
        print_summary(console, outcome, is_embedded=options.dsn is None)
        if console.is_terminal and sys.stdin.isatty() and not options.json:
            console.print(f"Look around at {address}/; Ctrl-C ends.", style="bold", highlight=False)
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return picture, outcome


def end_on_terminate() -> None:
    """Let SIGTERM end the running program as Ctrl-C does: by cancelling what it awaits."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def prepare(folder: Path, wanted: int | None) -> tuple[list[Subscriber], Path]:
    """The people, and the file of those who unsubscribed."""
    folder.mkdir(parents=True, exist_ok=True)
    if wanted is None:
        return subscribers.read(subscribers.SUBSCRIBERS), subscribers.UNSUBSCRIBED
    people, left = subscribers.generate(wanted)
    file = folder / "unsubscribed.txt"
    file.write_text("".join(f"{email}\n" for email in left), "utf-8")
    subscribers.write(folder / "subscribers.csv", people)
    return subscribers.read(folder / "subscribers.csv"), file


class Run:
    """One issue on its way."""

    def __init__(self, pool: AsyncConnectionPool[Any], screen: Display, folder: Path) -> None:
        self.pool = pool
        self.screen = screen
        self.folder = folder
        self.started = time.monotonic()

    async def send(self, people: Sequence[Subscriber], mail: MailServer) -> Results:
        mails = [{"email": each.email, "name": each.name, "issue": ISSUE} for each in people]
        await SendIssue.enqueue_many(mails)
        enqueue_seconds = time.monotonic() - self.started
        await self.wait(len(people) // 2)
        half = await self.enqueue_report("half-way.png", f"Issue {ISSUE}: half-way")
        await self.wait(len(people) + 1)
        final = await self.enqueue_report("report.png", f"Issue {ISSUE}: delivered by domain")
        await self.wait(len(people) + 2)
        reports = [await self.report(job) for job in (half, final)]
        async with self.pool.connection() as connection:
            return Results(
                subscribers=len(people),
                enqueue_seconds=enqueue_seconds,
                seconds=time.monotonic() - self.started,
                mails=await results.mails(connection),
                reports=reports,
                accepted=len(mail.received),
                one_to_one=await results.is_one_to_one(connection, mail.received),
            )

    async def wait(self, finished: int) -> None:
        """Show what the table says until that many jobs have come to an end."""
        while True:
            async with self.pool.connection() as connection:
                counts = await results.counts(connection)
            self.screen.show(counts, time.monotonic() - self.started)
            if sum(count for (_, state), count in counts.items() if state in FINAL) >= finished:
                return
            await asyncio.sleep(0.1)

    async def enqueue_report(self, name: str, title: str) -> Job:
        async with self.pool.connection() as connection:
            delivered = await results.delivered(connection)
        return await render_report.enqueue(str(self.folder / name), title, delivered)

    async def report(self, enqueued: Job) -> Report:
        """What the job has recorded."""
        job = await Oban.get_instance().get_job(enqueued)
        assert job is not None
        assert job.attempted_at is not None
        assert job.inserted_at is not None
        delay = (job.attempted_at - job.inserted_at).total_seconds()
        return Report(start_delay=delay, **job.recorded())


@contextmanager
def announced(screen: Display) -> Iterator[None]:
    """Tell the screen how each job ends, as telemetry says it."""

    def tell(_: str, event: dict[str, Any]) -> None:
        screen.tell(event["state"], line(event["job"], event))

    telemetry.attach("newsletter", ["oban.job.stop", "oban.job.exception"], tell)
    try:
        yield
    finally:
        telemetry.detach("newsletter")


def line(job: Job, event: dict[str, Any]) -> str:
    if job.queue == "reports":
        return f"rendered    {Path(job.args['path']).name}"
    email, attempt = job.args["email"], f"{job.attempt}/{job.max_attempts}"
    match event["state"]:
        case "completed":
            return f"sent        {email}"
        case "scheduled":
            return f"snoozed     {email}"
        case "cancelled":
            return f"cancelled   {email}"
        case "retryable":
            return f"failed {attempt}  {email}: {event['error_message']}"
        case _:
            return f"discarded   {email}: {event.get('error_message', 'gave up')}"


if __name__ == "__main__":
    sys.exit(main())
