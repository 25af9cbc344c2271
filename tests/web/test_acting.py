"""What is done from a page is done to the jobs and queues, and nothing else."""

import html
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from tests.running.support import eventually
from tests.web.conftest import Opening, Reader

from oban import Job, Oban, worker
from oban.engines.postgres import PostgresEngine
from oban.worker.definition import forget


async def state_of(client: Oban, job: Job) -> str:
    found = await client.get_job(job)
    return "gone" if found is None else str(found.state)


@pytest.mark.parametrize(
    ("action", "first", "after"),
    [
        ("cancel", [], "cancelled"),
        ("retry", ["cancel"], "available"),
        ("delete", [], "gone"),
    ],
)
async def test_a_job_is_acted_on(
    reader: Reader, client: Oban, action: str, first: list[str], after: str
) -> None:
    job, other = await client.enqueue_many(Job(worker="app.A"), Job(worker="app.B"))
    for each in first:
        await reader.act(f"/jobs/{job.id}/{each}")
    answer = await reader.act(f"/jobs/{job.id}/{action}")
    assert answer.status_code == 200
    assert answer.headers["hx-trigger"] == "look"
    assert await state_of(client, job) == after
    assert await state_of(client, other) == "available"


async def test_a_scheduled_job_is_run_now(reader: Reader, client: Oban) -> None:
    job = await client.enqueue(
        Job(worker="app.A", scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    )
    await reader.act(f"/jobs/{job.id}/run")
    assert await state_of(client, job) == "available"


async def test_what_cannot_be_done_is_told(reader: Reader, client: Oban) -> None:
    job = await client.enqueue(Job(worker="app.A"))
    await reader.act(f"/jobs/{job.id}/cancel")
    answer = await reader.act(f"/jobs/{job.id}/cancel")
    assert "could not be cancelled" in answer.text
    assert "hx-trigger" not in answer.headers
    assert (await reader.act(f"/jobs/{job.id}/explode")).status_code == 404


async def test_a_clone_is_a_new_job_of_the_same_work(reader: Reader, client: Oban) -> None:
    job = await client.enqueue(
        Job(worker="app.A", queue="media", args={"n": 1}, meta={"seen": 3}, tags=["x"], priority=2)
    )
    answer = await reader.act(f"/jobs/{job.id}/clone")
    clone = await client.get_job(int(answer.headers["hx-redirect"].rpartition("/")[2]))
    assert clone is not None
    assert clone.id != job.id
    wanted: Any = ("app.A", "media", {"n": 1}, ["x"], 2, {})
    assert (
        clone.worker, clone.queue, clone.args, clone.tags, clone.priority, clone.meta
    ) == wanted  # fmt: skip


async def test_only_what_was_changed_of_a_job_is_written(reader: Reader, client: Oban) -> None:
    job = await client.enqueue(Job(worker="app.A", args={"n": 1}, tags=["x"]))
    shown = fields_of((await reader.get(f"/jobs/{job.id}/edit")).text)
    assert json.loads(shown["args"]) == {"n": 1}
    await client.update_job(job, {"priority": 4})  # somebody else, meanwhile
    answer = await reader.act(f"/jobs/{job.id}/edit", data={**shown, "args": '{"n": 2}'})
    assert "args changed" in answer.text
    found = await client.get_job(job)
    assert found is not None
    assert (found.args, found.priority, found.tags) == ({"n": 2}, 4, ["x"])
    answer = await reader.act(f"/jobs/{job.id}/edit", data={**shown, "priority": "9"})
    assert answer.status_code == 409
    assert "priority was changed by somebody else" in answer.text
    assert (await client.get_job(job)).priority == 4  # type: ignore[union-attr]


def fields_of(page: str) -> dict[str, str]:
    """What a browser sends of a form that nobody has touched."""
    inputs = re.findall(r'<input [^>]*?name="([^"]+)" value="([^"]*)"', page)
    areas = re.findall(r'<textarea name="([^"]+)"[^>]*>([^<]*)<', page)
    return {name: html.unescape(text) for name, text in (*inputs, *areas)}


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("args", "{", "args is no JSON"),
        ("args", "[1]", "args is"),
        ("priority", "high", "priority is &#39;high&#39;; it is a number"),
        ("priority", "40", "priority"),
        ("queue", "", "queue"),
        ("max_attempts", "0", "max_attempts"),
    ],
)
async def test_a_wrong_change_is_refused_with_its_reason(
    reader: Reader, client: Oban, field: str, value: str, told: str
) -> None:
    job = await client.enqueue(Job(worker="app.A"))
    answer = await reader.act(f"/jobs/{job.id}/edit", data={field: value})
    assert answer.status_code == 400
    assert told in answer.text
    found = await client.get_job(job)
    assert found is not None
    assert (found.args, found.priority, found.queue) == ({}, 0, "default")


async def test_those_selected_are_acted_on_and_no_others(reader: Reader, client: Oban) -> None:
    jobs = await client.enqueue_many(Job(worker="app.A") for _ in range(5))
    answer = await reader.act("/bulk/cancel", json={"ids": [job.id for job in jobs[:3]]})
    assert answer.json() == {"done": 3, "of": 3, "is_over": True, "was": "cancelled"}
    assert [await state_of(client, job) for job in jobs] == ["cancelled"] * 3 + ["available"] * 2


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"ids": []},
        {"ids": ["1"]},
        {"ids": [True]},
        {"ids": [-1]},
        {"ids": [2**63]},
        {"ids": list(range(1, 1002))},
        {"q": 7, "state": None},
        {"q": "", "state": "bogus"},
        {"q": "color:red", "state": None},
        {"q": 'queue:"open', "state": None},
        {"q": "queue:a\0", "state": None},
        {"q": "queue:\ud800", "state": None},
        {"q": "args.\ud800:1", "state": None},
        {"q": "", "state": "\ud800"},
        {"q": "", "state": None, "up_to": "7"},
        {"q": "", "state": None, "up_to": 2**63},
        [],
    ],
)
async def test_an_action_on_what_cannot_be_meant_is_refused(
    reader: Reader, client: Oban, given: Any
) -> None:
    """A search that is not understood would find more than was meant."""
    job = await client.enqueue(Job(worker="app.A"))
    answer = await reader.act("/bulk/delete", content=json.dumps(given))
    assert answer.status_code == 400
    assert "note-error" in answer.text
    assert await state_of(client, job) == "available"


async def test_an_action_on_a_body_that_is_no_json_is_refused(reader: Reader) -> None:
    assert (await reader.act("/bulk/delete", content=b"{")).status_code == 400


async def test_all_that_match_are_acted_on_page_by_page(
    reader: Reader, client: Oban, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oban.web.pages.bulk.BATCH", 10)
    await client.enqueue_many(
        Job(worker="app.A", queue="a" if n % 2 else "b", args={"n": n % 3}) for n in range(90)
    )
    search: dict[str, Any] = {"q": "queue:a args.n:1", "state": "available"}
    count = (await reader.get("/count", params=search)).json()
    assert count == {"count": 15, "is_more": False, "up_to": count["up_to"]}
    answer = await reader.act("/bulk/cancel", json=search)
    steps = [json.loads(line) for line in answer.text.splitlines()]
    assert steps[-1] == {"done": 15, "of": 15, "is_over": True, "was": "cancelled", "error": None}
    assert [each["is_over"] for each in steps[:-1]] == [False] * (len(steps) - 1)
    assert (await reader.get("/count", params=search)).json()["count"] == 0
    left = {"q": "", "state": "available"}
    assert (await reader.get("/count", params=left)).json()["count"] == 75
    again = await reader.act("/bulk/retry", json={"q": "", "state": "cancelled"})
    assert json.loads(again.text.splitlines()[-1])["done"] == 15


async def test_jobs_that_come_after_the_count_are_left_alone_and_all_of_the_search_is_told(
    open_dashboard: Opening, client: Oban, events: list[tuple[str, Any]]
) -> None:
    def some() -> list[Job]:
        return [
            Job(worker="app.A", queue="a", args={"n": n % 2}, tags=["x"], priority=3)
            for n in range(6)
        ]

    async with open_dashboard(redact=["card"]) as reader:
        q = "queue:a args.n:1 tag:x priority:3 worker:app.A since:2h app"
        for state in ("available", None):
            first = await client.enqueue_many(some())
            count = (await reader.get("/count", params={"q": q, "state": state or ""})).json()
            later = await client.enqueue_many(some())
            search = {"q": q, "state": state, "up_to": count["up_to"]}
            answer = await reader.act("/bulk/cancel", json=search)
            assert json.loads(answer.text.splitlines()[-1])["done"] == 3
            assert {await state_of(client, job) for job in first[1::2]} == {"cancelled"}
            assert {await state_of(client, job) for job in later} == {"available"}
            await reader.act("/bulk/delete", json={"q": "", "state": None})
        answer = await reader.act("/bulk/cancel", json={"q": "id:1,2 node:n", "state": None})
        assert answer.status_code == 200
    told = [metadata["search"] for name, metadata in events if name == "oban.web.action"]
    since = datetime.fromisoformat(told[0].pop("since"))
    assert datetime.now(UTC) - since < timedelta(hours=3)
    assert told[0] == {
        "state": "available", "queue": "a", "args.n": "1", "tags": ("x",), "priority": 3,
        "worker": "app.A", "worker_like": "app", "up_to": told[0]["up_to"],
    }  # fmt: skip
    assert (told[-1]["ids"], told[-1]["node"]) == ((1, 2), "n")


async def test_a_queue_is_commanded(reader: Reader, client: Oban, engine: PostgresEngine) -> None:
    async def commanded() -> dict[tuple[str, str, str], Any]:
        found = await engine.execute(engine.intents("Oban"))
        return {(each.queue, each.node, each.aspect): each.value for each in found}

    await reader.act("/queues/media/pause")
    await reader.act("/queues/media/pause", data={"node": "web-1"})
    await reader.act("/queues/media/scale", data={"limit": "7", "global_limit": "", "node": ""})
    assert await commanded() == {
        ("media", "*", "paused"): True,
        ("media", "web-1", "paused"): True,
        ("media", "*", "limit"): 7,
    }
    await reader.act("/queues/media/scale", data={"allowed": "60", "period": "10"})
    assert (await commanded())["media", "*", "rate_limit"] == {"allowed": 60, "period": 10.0}
    await reader.act("/queues/media/resume")
    assert (await commanded())["media", "*", "paused"] is False
    await reader.act("/queues/media/reset")
    assert await commanded() == {}
    for wrong in ({"limit": "many"}, {"limit": "-1"}, {}, {"limit": "0"}):
        answer = await reader.act("/queues/media/scale", data=wrong)
        assert answer.status_code == 400
    assert await commanded() == {}


async def test_a_queue_with_any_name_can_be_commanded(
    reader: Reader, engine: PostgresEngine
) -> None:
    names = ["a b?", "a/b", "ä/pause", "100%"]
    for name in names:
        assert (await reader.act(f"/queues/{quote(name, safe='')}/pause")).status_code == 200
    intents = await engine.execute(engine.intents("Oban"))
    assert sorted(each.queue for each in intents) == sorted(names)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/queues/default/scale", b"\xff=1", 400),
        ("/queues/default/scale", b"limit=" + b"1" * 9_000_000, 413),
        ("/jobs/{id}/edit", b"\xff", 400),
        ("/jobs/{id}/edit", b"meta=" + b"[" * 100_000, 400),
        ("/bulk/cancel", b"[" * 100_000, 400),
        ("/bulk/cancel", b'{"ids": [' + b"1," * 5_000_000 + b"1]}", 413),
    ],
)
async def test_what_no_page_of_ours_sends_is_refused(
    reader: Reader, client: Oban, path: str, body: bytes, status: int
) -> None:
    job = await client.enqueue(Job(worker="app.A"))
    answer = await reader.act(path.format(id=job.id), content=body)
    assert answer.status_code == status
    assert "note-error" in answer.text


async def test_a_cron_entry_is_run_paused_and_resumed(
    reader: Reader, client: Oban, oban_dsn: str
) -> None:
    @worker(cron={"expr": "0 0 1 1 *", "name": "every/year"})
    class Yearly:
        async def process(self, job: Job) -> None: ...

    async with Oban(pool=oban_dsn, node="n", queues={"unused": 1}) as oban:

        async def is_noted() -> bool:
            return bool(await oban.engine.execute(oban.engine.last_slots("Oban")))

        await eventually(is_noted)
    page = (await reader.open("/cron")).text
    assert "0 0 1 1 *" in page
    assert "never" in page
    assert "is enqueued" in (await reader.act("/cron/every%2Fyear/run")).text
    page = (await reader.get("/cron")).text
    assert "run state-available" in page
    assert "is paused" in (await reader.act("/cron/every%2Fyear/pause")).text
    assert ">paused</span>" in (await reader.get("/cron")).text
    assert "goes on" in (await reader.act("/cron/every%2Fyear/resume")).text
    assert ">paused</span>" not in (await reader.get("/cron")).text
    assert (await reader.act("/cron/nothing/pause")).status_code == 404
    forget(f"{__name__}.{Yearly.__qualname__}")
