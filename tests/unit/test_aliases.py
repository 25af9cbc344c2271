"""Workers that were renamed, and the jobs that were stored under their former names."""

from collections.abc import Iterator
from typing import Any

import pytest

from oban import Job, Worker, worker
from oban.errors import InvalidOption, UnknownWorker
from oban.lookup import WorkerFinder
from oban.testing import process_job
from oban.worker import forget, registered

FINDER = WorkerFinder()
HERE = __name__


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    before = set(registered())
    yield
    for name in set(registered()) - before:
        forget(name)


def define(name: str, *aliases: str, **options: Any) -> type[Worker]:
    class Made(Worker):
        def process(self, job: Job) -> str:
            return f"{name} ran {job.worker}"

    Made.__qualname__ = name
    return worker(aliases=aliases, **options)(Made)


async def test_a_job_of_a_former_name_runs_with_the_worker_of_today() -> None:
    define("Mailer", "old.mail.Sender", "older.Mails")
    for former in ("old.mail.Sender", "older.Mails"):
        assert FINDER.find(former).name == f"{HERE}.Mailer"
        assert await process_job(Job(worker=former)) == f"Mailer ran {former}"
    assert list(registered()).count(f"{HERE}.Mailer") == 1


def test_one_that_was_not_found_before_is_found_once_it_is_known() -> None:
    with pytest.raises(UnknownWorker):
        FINDER.find("old.late.Sender")
    define("Late", "old.late.Sender")
    assert FINDER.find("old.late.Sender").name == f"{HERE}.Late"


def test_a_module_that_is_loaded_again_replaces_them() -> None:
    define("Again", "old.first.Name")
    define("Again", "old.second.Name")
    assert FINDER.find("old.second.Name").name == f"{HERE}.Again"
    with pytest.raises(UnknownWorker):
        FINDER.find("old.first.Name")


def test_a_name_has_one_worker() -> None:
    define("First", "old.shared.Name")
    with pytest.raises(InvalidOption, match=rf"which is an alias of {HERE}\.First"):
        define("Second", "old.shared.Name")
    with pytest.raises(InvalidOption, match="which is a worker itself"):
        define("Third", f"{HERE}.First")
    define("Fourth", f"{HERE}.Fifth")
    with pytest.raises(InvalidOption, match=rf"Fifth is a worker, and an alias of {HERE}\.Fourth"):
        define("Fifth")
    assert FINDER.find("old.shared.Name").name == f"{HERE}.First"


@pytest.mark.parametrize(
    ("aliases", "said"),
    [
        ([5], "holds 5; it is a list of former names"),
        (["Sender"], "each module.Class as it stands in the table"),
        (["old mail.Sender"], "module.Class"),
        (["x." + "y" * 130], "module.Class"),
        ([f"{HERE}.Wrong"], "holds its own name"),
    ],
)
def test_what_cannot_have_been_a_name_is_refused(aliases: Any, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        define("Wrong", *aliases)
