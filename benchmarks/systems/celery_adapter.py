"""celery on Redis with its pool of threads and its default prefetch, four tasks a thread;
a larger one measured no faster.

What is durable is what Redis makes so, and a task is acknowledged before it runs, its default: one
that was running when its worker died is lost. Results are not kept. The worker is celery's own
command, which finds the order in the environment; events between workers are off.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from celery import Celery, Task
from celery.signals import worker_ready
from protocol import Args, Order, Recorder, main
from protocol import ready as say_ready

record: Recorder
ORDER = "BENCH_ORDER"
PREFETCH = 4

app = Celery(
    "bench",
    task_ignore_result=True,
    worker_prefetch_multiplier=PREFETCH,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    broker_transport_options={
        "priority_steps": list(range(10)),
        "queue_order_strategy": "priority",
    },
)


def run(args: Args) -> None:
    record(args)


def fail_first(self: Task, args: Args) -> None:
    if self.request.retries == 0:
        raise self.retry(exc=RuntimeError("always the first time"))
    record(args)


running = app.task(run, name="bench")
failing = app.task(fail_first, name="failing", bind=True, max_retries=1, default_retry_delay=0)


class CeleryAdapter:
    order: Order

    async def prepare(self, order: Order) -> None:
        await self.open(order)
        with app.connection() as connection:
            connection.default_channel.client.flushall()

    async def open(self, order: Order) -> None:
        self.order = order
        app.conf.broker_url = broker(order)
        self.task = failing if order.fail else running

    async def close(self) -> None:
        app.close()

    async def enqueue(self, args: Args, *, priority: int = 0, delay: float = 0.0) -> None:
        """Callers at the same time are threads, since its client blocks."""
        options: dict[str, Any] = {"priority": priority}
        if delay:
            options["countdown"] = delay
        if self.order.how == "concurrent":
            await asyncio.to_thread(self.task.apply_async, (args,), **options)
        else:
            self.task.apply_async((args,), **options)

    async def enqueue_many(self, many: Sequence[Args], priorities: Sequence[int]) -> None:
        raise NotImplementedError("celery sends one at a time")

    async def work(self, order: Order, ready: Callable[[], None]) -> None:
        command = ["-m", "celery", "-q", "-A", "celery_adapter", "worker", "-P", "threads"]
        options = ["-c", str(order.concurrency), "-l", "critical", "-n", f"bench-{os.getpid()}@%h"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        environment = {**os.environ, ORDER: json.dumps(asdict(order))}
        os.execve(sys.executable, [sys.executable, *command, *options, *quiet], environment)


def announce(**_: Any) -> None:
    """What celery prints after this is for people, and goes where errors go."""
    say_ready()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def broker(order: Order) -> str:
    return order.dsn.replace("unix://", "redis+socket://")


if ORDER in os.environ:
    ordered = Order.parse(os.environ[ORDER])
    app.conf.broker_url = broker(ordered)
    record = Recorder(ordered.records)
    worker_ready.connect(announce)

if __name__ == "__main__":
    main(CeleryAdapter())
