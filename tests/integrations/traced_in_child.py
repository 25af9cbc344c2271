"""A worker in a child process that is traced there, in a module that a child imports quickly."""

import asyncio
from multiprocessing import parent_process

from opentelemetry import trace

from oban import Record, job
from oban.integrations.opentelemetry import instrument


@job(queue="mailers", executor="process")
async def tell() -> Record:
    """Which span is current."""
    await asyncio.sleep(0)
    context = trace.get_current_span().get_span_context()
    return Record([context.trace_id.to_bytes(16).hex(), context.span_id.to_bytes(8).hex()])


if parent_process() is not None:
    instrument()
