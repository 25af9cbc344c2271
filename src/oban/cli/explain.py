"""`oban explain`: why a job does not run, or ended as it did."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from rich.padding import Padding
from rich.text import Text

from oban.cli.database import client
from oban.cli.failures import Failed
from oban.cli.job_table import state_text
from oban.cli.job_view import document as job_document
from oban.cli.options import (
    ConfigOption,
    DsnOption,
    EmbeddedOption,
    JsonOption,
    PrefixOption,
    configure,
)
from oban.cli.terminal import flat, output, print_json
from oban.configuration import Configuration
from oban.engines.reads import JobFilter
from oban.explanation import Cause, Explanation
from oban.fields import MAX_ID

NEWEST: Final = JobFilter(limit=1)


def explain(
    *,
    job_id: Annotated[int, typer.Argument(metavar="ID", help="The job's id.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    dsn: DsnOption = None,
    embedded: EmbeddedOption = False,
    prefix: PrefixOption = None,
) -> None:
    """Say why a job does not run, or why it ended as it did, and what to do about it.

    Everything that keeps it, the most telling first: paused or stopped queues, missing nodes, full
    limits, jobs before it, times, errors.
    """
    loaded = configure(config, dsn, embedded, prefix)
    explanation = asyncio.run(look(loaded, job_id))
    if as_json:
        print_json(document(explanation))
    else:
        print_explanation(explanation)


async def look(loaded: Configuration, job_id: int) -> Explanation:
    if not 0 < job_id <= MAX_ID:
        raise Failed(f"there is no job {job_id}; ids are whole numbers from 1 to {MAX_ID}")
    async with client(loaded) as oban:
        if explanation := await oban.explain(job_id):
            return explanation
        newest = await oban.list_jobs(NEWEST)
    raise Failed(f"there is no job {job_id}{missing(job_id, newest[0].id if newest else None)}")


def missing(job_id: int, newest: int | None) -> str:
    """What may have become of it."""
    if newest is None:
        return "; the table is empty: is it the right database, and the right --prefix?"
    if job_id > newest:
        return (
            f"; the newest is {newest}: the transaction that inserted it was not committed, or it "
            "is in another database"
        )
    return (
        "; it was deleted, or pruned: finished jobs are kept for pruner.max_age, a day unless "
        "configured otherwise"
    )


def document(explanation: Explanation) -> dict[str, Any]:
    return {
        "summary": explanation.summary,
        "causes": [asdict(each) for each in explanation.causes],
        "job": job_document(explanation.job),
    }


def print_explanation(explanation: Explanation) -> None:
    job = explanation.job
    console = output()
    title = Text.assemble(
        (f"#{job.id} ", "bold"), (flat(job.worker), "bold"), "  ", state_text(job.state)
    )
    about = (
        f"queue {job.queue}, priority {job.priority}, attempt {job.attempt} of {job.max_attempts}"
    )
    console.print(title, soft_wrap=True)
    console.print(Text(flat(about), "dim"), soft_wrap=True)
    console.print()
    first, *others = explanation.causes
    console.print(Text(sentence(explanation.summary), "bold"))
    print_advice(first)
    for each in others:
        console.print(Text(sentence(each.text)))
        print_advice(each)


def sentence(text: str) -> str:
    shown = flat(text)
    return f"{shown[:1].upper()}{shown[1:]}."


def print_advice(cause: Cause) -> None:
    """Never wrapped: it may be a command to be copied."""
    if cause.advice is not None:
        advice = Text.assemble(("→ ", "green"), flat(cause.advice))
        output().print(Padding(advice, (0, 0, 0, 2), expand=False), soft_wrap=True)
