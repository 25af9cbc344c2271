"""What is only enqueued is accounted for: all of it, and nothing else."""

from typing import Any, cast

import pytest
from benchmarks.bench import QUICK, Bench
from benchmarks.catalog import BY_NAME
from benchmarks.measurement import Void
from benchmarks.store import Database, Store
from tests.engines.connections.test_lent import build

from oban import Oban

OURS = BY_NAME["oban"]


@pytest.fixture
def bench() -> Bench:
    return Bench(cast("Any", None), QUICK, BY_NAME)


async def test_rows_that_are_missing_or_too_many_void_it(
    client: Oban, oban_dsn: str, bench: Bench
) -> None:
    await client.enqueue_many(build() for _ in range(3))
    store = Database(oban_dsn)
    bench.require_all(OURS, store, 3)
    for enqueued in (2, 4):
        with pytest.raises(Void, match=f"{enqueued} were enqueued and 3 are there"):
            bench.require_all(OURS, store, enqueued)


def test_where_there_are_no_rows_the_jobs_are_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained: list[int] = []
    drain = lambda system, store, count, **order: drained.append(count)  # noqa: E731
    monkeypatch.setattr(bench, "drain", drain)
    bench.require_all(BY_NAME["celery"], Store("redis://"), 3)
    assert drained == [3]


def test_each_system_on_postgres_names_its_table() -> None:
    assert all(bool(each.table) is (each.store == "postgres") for each in BY_NAME.values())
