"""How a node stops: in time, whatever its jobs do, and with their rows as they were."""

import signal
import time

import pytest
from tests.cli.application import Application, rows

GRACE = 1.0
KEPT = {"kept": True}


def arguments(dsn: str, *more: str) -> list[str]:
    return ["--dsn", dsn, "--queues", "default:10,blocked:5", "--log-format", "text", *more]


async def test_jobs_of_every_kind_are_given_back_within_the_grace(
    application: Application, oban_dsn: str
) -> None:
    kinds = ("Patient", "Threaded", "Stubborn")
    application.enqueue(oban_dsn, *kinds)
    async with application.start(
        *arguments(oban_dsn, "--shutdown-grace-period", str(GRACE))
    ) as process:
        for kind in kinds:
            await process.line(f"start .* jobs_of_mine.{kind} ")
        began = time.monotonic()
        process.terminate()
        await process.line(r"SIGTERM: stopping, waiting up to 1 s for 3 running jobs \(default 3\)")
        assert await process.exited(timeout=GRACE + 5) == 0
        took = time.monotonic() - began
    assert took < GRACE + 1
    assert rows(oban_dsn) == [(f"jobs_of_mine.{kind}", "available", 0, KEPT) for kind in kinds]


async def test_given_back_jobs_run_again_elsewhere(application: Application, oban_dsn: str) -> None:
    application.enqueue(oban_dsn, "Threaded")
    for _ in range(2):
        async with application.start(
            *arguments(oban_dsn, "--shutdown-grace-period", "0.5")
        ) as process:
            await process.line(r"start .* jobs_of_mine.Threaded #\d+ 1/20")
            process.terminate()
            assert await process.exited() == 0


async def test_a_job_that_ends_within_the_grace_is_completed(
    application: Application, oban_dsn: str
) -> None:
    application.write(
        "brief.py",
        """
        import asyncio
        from oban import job
        @job()
        async def brief(kept):
            await asyncio.sleep(1)
        """,
    )
    application.enqueue(oban_dsn, "brief.brief")
    async with application.start(*arguments(oban_dsn)) as process:
        await process.line("start .* brief.brief ")
        process.send(signal.SIGINT)
        await process.line("SIGINT: stopping")
        assert await process.exited() == 0
    assert rows(oban_dsn) == [("brief.brief", "completed", 1, KEPT)]


async def test_a_worker_that_blocks_the_loop_does_not_hold_the_exit(
    application: Application, oban_dsn: str
) -> None:
    application.enqueue(oban_dsn, "Blocking", queue="blocked")
    async with application.start(
        *arguments(oban_dsn, "--shutdown-grace-period", str(GRACE))
    ) as process:
        await process.line("start .* jobs_of_mine.Blocking ")
        began = time.monotonic()
        process.terminate()
        assert await process.exited(timeout=GRACE + 5) == 0
        assert time.monotonic() - began < GRACE + 1
    assert "a worker blocks the event loop" in process.output
    assert rows(oban_dsn) == [("jobs_of_mine.Blocking", "available", 0, KEPT)]


async def test_a_loop_that_was_blocked_for_a_while_still_stops_in_time(
    application: Application, oban_dsn: str
) -> None:
    application.write(
        "blocking.py",
        """
        import time
        from oban import job
        @job(queue="blocked")
        async def block(kept):
            time.sleep(0.5)
        """,
    )
    application.enqueue(oban_dsn, "Patient", "Threaded")
    async with application.start(
        *arguments(oban_dsn, "--shutdown-grace-period", str(GRACE))
    ) as process:
        await process.line("start ", count=2)
        application.enqueue(oban_dsn, "blocking.block", queue="blocked")
        await process.line("start .* blocking.block ")
        began = time.monotonic()
        process.terminate()
        assert await process.exited(timeout=GRACE + 5) == 0
        assert time.monotonic() - began < GRACE + 1
    assert [row[1:3] for row in rows(oban_dsn)] == [
        ("available", 0),
        ("available", 0),
        ("completed", 1),
    ]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_interrupt_ends_it_at_once(
    application: Application, oban_dsn: str, first: signal.Signals
) -> None:
    application.enqueue(oban_dsn, "Patient", "Threaded", "Stubborn")
    async with application.start(*arguments(oban_dsn)) as process:
        await process.line("start ", count=3)
        process.send(first)
        await process.line("stopping, waiting up to 15 s")
        process.terminate()  # asks for what it does already
        began = time.monotonic()
        process.send(signal.SIGINT)
        assert await process.exited() == 130
        assert time.monotonic() - began < 1


async def test_a_thread_of_the_application_does_not_hold_the_exit(
    application: Application, oban_dsn: str
) -> None:
    application.write(
        "threads.py",
        """
        import threading, time
        from oban import job
        threading.Thread(target=time.sleep, args=[60]).start()
        @job()
        def one(): ...
        """,
    )
    async with application.start(*arguments(oban_dsn)) as process:
        await process.line("waits up to 15 s")
        process.terminate()
        assert await process.exited(timeout=3) == 0


async def test_a_thread_of_the_application_does_not_hold_an_error(
    application: Application, dsn: str
) -> None:
    application.write(
        "threads.py",
        """
        import threading, time
        from oban import job
        threading.Thread(target=time.sleep, args=[60]).start()
        @job()
        def one(): ...
        """,
    )
    async with application.start(*arguments(dsn)) as process:
        assert await process.exited(timeout=5) == 1
    assert "run `oban install`" in process.output


async def test_asked_while_it_imports_it_ends_without_a_word(
    application: Application, oban_dsn: str
) -> None:
    application.write(
        "slow.py",
        """
        import sys, time
        from oban import job
        print("importing", flush=True)
        time.sleep(30)
        @job()
        def one(): ...
        """,
    )
    async with application.start(*arguments(oban_dsn)) as process:
        await process.line("importing")
        process.terminate()
        assert await process.exited(timeout=3) == 0
    assert process.output == "importing"


async def test_a_job_that_ends_the_program_ends_only_itself(
    application: Application, oban_dsn: str
) -> None:
    application.write(
        "leaving.py",
        """
        import asyncio, sys
        from oban import job

        async def leave():
            sys.exit(3)

        async def interrupt():
            raise KeyboardInterrupt

        @job()
        async def leaves(kept):
            await asyncio.create_task(leave())

        @job()
        async def interrupts(kept):
            await asyncio.create_task(interrupt())

        @job()
        async def interrupts_here(kept):
            raise KeyboardInterrupt

        @job()
        def interrupts_on_a_thread(kept):
            raise KeyboardInterrupt
        """,
    )
    names = ("leaves", "interrupts", "interrupts_here", "interrupts_on_a_thread")
    application.enqueue(oban_dsn, *(f"leaving.{name}" for name in names))
    async with application.start(*arguments(oban_dsn)) as process:
        for name in names:
            await process.line(f"retry .*leaving.{name} ")
        application.enqueue(oban_dsn, "quick")
        await process.line(r"jobs_of_mine.quick #\d+")
        process.terminate()
        assert await process.exited() == 0
    assert rows(oban_dsn)[-1] == ("jobs_of_mine.quick", "completed", 1, KEPT)


async def test_a_node_whose_resource_is_lost_ends_with_an_error(
    application: Application, oban_dsn: str
) -> None:
    application.write(
        "lent.py",
        """
        import asyncio
        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def fleeting():
            async with asyncio.timeout(0.5):
                yield
        """,
    )
    application.write("oban.toml", '[resources]\nfleeting = "lent:fleeting"\n')
    async with application.start(*arguments(oban_dsn)) as process:
        assert await process.exited() == 1
        assert "TimeoutError" in process.output
