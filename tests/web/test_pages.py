"""What pages show, whatever stands in the rows."""

import asyncio
import html
import json
import random
import re
from typing import Any

import httpx
import psycopg
import pytest
from tests.roads import direct
from tests.web.conftest import Opening, Reader

from oban import Job, JobState, Oban
from oban.web import app
from oban.web.live import interval_of

SCRIPT = '<script>alert("x")</script>\'"><img src=x onerror=alert(1)>'
#: What no page may hold unescaped.
RAW = ("<script>alert", "<img src=x")


@pytest.mark.parametrize("path", ["/jobs", "/queues", "/cron", "/nodes"])
async def test_a_page_without_anything_says_how_to_begin(reader: Reader, path: str) -> None:
    page = await reader.open(path)
    assert page.status_code == 200
    assert 'class="empty"' in page.text
    assert "<pre><code>" in page.text


async def test_a_job_that_is_not_there_is_said_to_be_gone(reader: Reader) -> None:
    page = await reader.open("/jobs/42")
    assert page.status_code == 404
    assert "There is no job 42" in page.text


async def test_an_id_that_no_job_can_have_is_that_of_no_job(reader: Reader) -> None:
    for text in ("9" * 5_000, str(2**63), "x", "²"):
        for path in ("", "/stack", "/edit", "/json"):
            page = await reader.get(f"/jobs/{text}{path}")
            assert page.status_code == 404
            assert "There is no job" in page.text
        for path in ("/cancel", "/clone", "/edit"):
            answer = await reader.act(f"/jobs/{text}{path}", data={"queue": "x"})
            assert answer.status_code == 404
            assert "There is no job" in answer.text
    assert (await reader.act("/cron/entry/bogus")).status_code == 404


async def test_nothing_in_a_row_becomes_code(reader: Reader, client: Oban, oban_dsn: str) -> None:
    job = await client.enqueue(
        Job(
            worker=SCRIPT[:100],
            queue=SCRIPT[:100],
            args={SCRIPT: SCRIPT},
            meta={SCRIPT: [SCRIPT]},
            tags=[SCRIPT],
        )
    )
    with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
        connection.execute(
            "update oban_jobs set state = 'discarded', discarded_at = now(), attempted_at = now(), "
            "attempted_by = %s, errors = %s",
            [[SCRIPT, SCRIPT], json.dumps([{"attempt": SCRIPT, "at": SCRIPT, "error": SCRIPT}])],
        )
    for path in (
        "/jobs",
        f"/jobs/{job.id}",
        "/queues",
        "/nodes",
        "/cron",
        "/jobs?q=" + SCRIPT.replace("&", "%26"),
        "/jobs?state=" + SCRIPT,
        "/jobs?after=" + SCRIPT,
    ):
        page = await reader.get(path)
        assert page.status_code == 200, path
        assert not [each for each in RAW if each in page.text], path


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("args", "[1, 2]"),
        ("args", '"text"'),
        ("meta", "[]"),
        ("meta", '{"recorded": true, "return": 7}'),
        ("meta", '{"recorded": true, "return": "rubbish"}'),
        ("errors", '{"a": 1}'),
        ("errors", '[null, 1, "text", {"at": 7}, {"at": "2026-01-01"}, {}]'),
        ("attempted_by", "{}"),
        ("priority", "400"),
        ("scheduled_at", "infinity"),
        ("scheduled_at", "-infinity"),
        ("completed_at", "0001-01-01 00:00:00"),
    ],
)
async def test_a_row_of_somebody_else_breaks_no_page(
    reader: Reader, client: Oban, oban_dsn: str, column: str, value: str
) -> None:
    job = await client.enqueue(Job(worker="app.Worker"))
    for state in JobState:
        with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
            connection.execute(
                f"update oban_jobs set state = %s, {column} = %s",
                [str(state), value],
            )
        for path in ("/jobs", f"/jobs?state={state}", f"/jobs/{job.id}", "/queues", "/cron"):
            page = await reader.get(path)
            assert page.status_code == 200, (path, page.text[-300:])
            if path.startswith("/jobs"):
                assert f"/jobs/{job.id}" in page.text or f'"id">{job.id}<' in page.text


#: What nobody who tells of a queue would tell.
FOREIGN = [
    "[]",
    '"text"',
    '{"running": 7, "limit": "many", "memory": "12 MB", "paused": "no", "pid": []}',
    '{"running": ["a", null], "running_count": -1, "waiting_count": "x", "loop_lag": "late"}',
    '{"memory": 1e300, "limit": 1e300, "running_count": 1e15, "loop_lag": -1e300, "leader": 7}',
    f'{{"limit": {"9" * 5_000}, "memory": {"9" * 400}}}',
    '{"rate_limit": {"allowed": "x", "period": null}, "global_limit": {}, "version": {"a": 1}}',
    '{"rate_limit": 3, "polling": [1], "shutdown_started_at": 7, "running_count": null}',
]


async def test_a_heartbeat_of_somebody_else_breaks_no_page(
    reader: Reader, client: Oban, oban_dsn: str
) -> None:
    with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
        for at, meta in enumerate(FOREIGN):
            connection.execute(
                "with told as (insert into oban_owners (uuid, name, node, queue, max_age) "
                "values (gen_random_uuid(), 'Oban', %s, 'media', 60) returning uuid, name, node) "
                "insert into oban_producers (uuid, name, node, queue, meta, started_at, updated_at)"
                " select uuid, name, node, 'media', %s, 'infinity', now() from told",
                [f"node-{at}", meta],
            )
        for updated_at in ("now", "infinity", "-infinity"):
            connection.execute("update oban_producers set updated_at = %s", [updated_at])
            for path in ("/nodes", "/queues"):
                page = await reader.get(path)
                assert page.status_code == 200, (path, page.text[-300:])
                assert all(f"node-{at}" in page.text for at in range(len(FOREIGN)))
    assert len(await client.list_queues()) == len(FOREIGN)


@pytest.mark.parametrize("redact", [[], ["card"]])
async def test_what_is_nested_or_repeated_beyond_reason_breaks_no_page(
    open_dashboard: Opening, oban_dsn: str, redact: list[str]
) -> None:
    ids = []
    with psycopg.connect(direct(oban_dsn), autocommit=True) as connection:
        for depth in (300, 600, 900, 3_000):
            deep = '{"a": ' * depth + "1" + "}" * depth
            ids += connection.execute(
                "insert into oban_jobs (worker, args, meta, errors) values ('w', %s, %s, %s) "
                "returning id",
                [deep, deep, f"[{deep}]"],
            ).fetchall()
        ids += connection.execute(
            "insert into oban_jobs (worker, tags, attempted_by) values ('w', %s, %s) returning id",
            [["x" * 1_000_000, *map(str, range(50_000))], ["n" * 1_000_000]],
        ).fetchall()
    async with open_dashboard(redact=redact) as reader:
        for path in ("/jobs", *(f"/jobs/{each}" for (each,) in ids)):
            page = await reader.get(path)
            assert page.status_code == 200, path
            assert len(page.text) < 120_000, path
        for (each,) in ids:
            for form in ("edit", "json"):
                assert (await reader.get(f"/jobs/{each}/{form}")).status_code == 200


async def test_many_queues_are_on_pages_and_found_by_name(reader: Reader, client: Oban) -> None:
    await client.enqueue_many(Job(worker="app.A", queue=f"tenant-{n:03}") for n in range(120))

    async def shown(path: str, **headers: str) -> tuple[list[str], str]:
        page = (await reader.get(path, headers=headers)).text
        looks = re.search(r'id="queues" hx-get="([^"]+)"', page)
        return re.findall(r'data-queue="([^"]+)"', page), html.unescape(looks[1] if looks else "")

    seen: list[str] = []
    for number in range(3):
        queues, again = await shown(f"/queues?page={number}")
        # What looks again looks at what is shown.
        assert (await shown(again, **{"hx-target": "queues"}))[0] == queues
        seen += queues
    assert seen == [f"tenant-{n:03}" for n in range(120)]
    assert (await shown("/queues?page=99"))[0] == seen[100:]
    assert (await shown("/queues?page=x"))[0] == seen[:50]
    queues, again = await shown("/queues?q=TENANT-11")
    assert queues == seen[110:]
    assert (await shown(again))[0] == queues
    assert "No queue has that" in (await reader.get("/queues?q=nowhere")).text


async def test_arguments_of_megabytes_are_on_no_page(open_dashboard: Opening, client: Oban) -> None:
    dice = random.Random(7)
    large = {"text": "".join(dice.choices("0123456789abcdef", k=3_000_000)), "card": "4111"}
    job = await client.enqueue(Job(worker="app.A", args=large))
    # So even that it takes little room as it is stored.
    await client.enqueue(Job(worker="app.A", args={"text": "a" * 300_000}))
    await client.enqueue(Job(worker="app.A", args={"text": "a" * 200}))
    async with open_dashboard(redact=["card"]) as reader:
        page = (await reader.open()).text
        assert page.count("on the page of the job)") == 2
        assert "MB, on the page" in page
        assert "aaaaaaaa" in page
        assert len(page) < 60_000
        page = (await reader.get(f"/jobs/{job.id}")).text
        assert "the first 50,000 of 3,000," in page
        assert len(page) < 100_000
        whole = (await reader.get(f"/jobs/{job.id}/json")).json()
        assert whole["args"] == {**large, "card": "(redacted)"}
        assert (whole["id"], whole["worker"], whole["state"]) == (job.id, "app.A", "available")
        form = (await reader.get(f"/jobs/{job.id}/edit")).text
        assert "very long" in form
        assert len(form) < 10_000


async def test_jobs_are_counted_by_groups_among_the_newest(
    reader: Reader, client: Oban, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.enqueue_many(Job(worker=f"app.W{n // 10}") for n in range(20))
    monkeypatch.setattr("oban.web.pages.metrics.NEWEST", 12)
    page = (await reader.get("/stats?by=worker")).text
    assert re.findall(r"<td>(app\.W\d)</td><td[^>]*>(\d+)</td>", page) == [
        ("app.W1", "10"),
        ("app.W0", "2"),
    ]
    assert "Of the newest 12 jobs: 12 counted" in page
    page = (await reader.get("/stats?by=worker&of=all")).text
    assert "Of all jobs in the table: 20 counted" in page
    monkeypatch.setattr("oban.web.pages.metrics.ALL_PATIENCE", 0.001)
    await client.enqueue_many(Job(worker="app.W") for _ in range(5_000))
    answer = await reader.get("/stats?by=args.n&of=all", headers={"hx-request": "true"})
    assert answer.status_code == 503
    assert "note-error" in answer.text


async def test_a_chart_of_what_has_not_ended_says_so(reader: Reader) -> None:
    told = await reader.get("/series?state=available")
    assert told.status_code == 400
    assert "in which no job has ended" in told.text
    assert (await reader.get("/series?state=completed")).status_code == 200
    assert (await reader.get("/series?state=retryable&measure=exec")).status_code == 200


async def test_what_a_page_loads_is_kept_until_it_is_another(reader: Reader) -> None:
    page = (await reader.get("/jobs")).text
    paths = set(re.findall(r'(?:src|href)="(/static/[^"#]+)', page))
    assert len(paths) >= 8
    for path in paths:
        answer = await reader.get(path)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable", path
        assert "set-cookie" not in answer.headers
    for path in ("/static/oban.js", "/static/oban.js?v=other"):
        answer = await reader.get(path)
        assert answer.headers["cache-control"] == "private, no-cache"
        same = {"if-none-match": answer.headers["etag"]}
        assert (await reader.get(path, headers=same)).status_code == 304
    assert (await reader.get("/jobs")).headers["cache-control"] == "no-store"


async def test_only_so_many_pages_are_told_when_to_look(
    client: Oban, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oban.web.live.MOST_LISTENERS", 1)
    dashboard = app(client)
    begun, gone = asyncio.Event(), asyncio.Event()

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        begun.set()

    scope = {
        "type": "http", "method": "GET", "path": "/live", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 5000), "http_version": "1.1",
    }  # fmt: skip
    transport = httpx.ASGITransport(dashboard, client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as reader:
        listening = asyncio.create_task(dashboard(scope, receive, send))
        await begun.wait()
        answer = await reader.get("/live")
        assert answer.status_code == 503
        assert "asks again by itself" in answer.text
        gone.set()
        await listening
    assert dashboard.state.dashboard.listener_count == 0


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [1, 2, 3]),
        ("queue:mailers", [2, 3]),
        ("queue:mailers tag:b", [3]),
        ("worker:app.One", [1]),
        ("one", [1]),
        ("args.user.id:7", [1]),
        ("args.n:2", [2]),
        ('args.name:"two words"', [3]),
        ("priority:3", [3]),
        ("meta.kind:x", [2]),
        ("since:1h", [1, 2, 3]),
        ("queue:nowhere", []),
    ],
)
async def test_a_search_finds_what_it_says(
    reader: Reader, client: Oban, query: str, found: list[int]
) -> None:
    jobs = await client.enqueue_many(
        Job(worker="app.One", args={"user": {"id": 7}}),
        Job(worker="app.Two", queue="mailers", args={"n": 2}, meta={"kind": "x"}),
        Job(worker="app.Two", queue="mailers", args={"name": "two words"}, tags=["b"], priority=3),
    )
    for state in ("", "available"):
        page = await reader.get("/jobs", params={"q": query, "state": state})
        shown = [at for at, job in enumerate(jobs, 1) if f'data-id="{job.id}"' in page.text]
        assert shown == found


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("color:red", "is none of: queue"),
        ("priority:high", "is no number"),
        ("since:yesterday", "is no span of time"),
        ("id:one", "is no list of ids"),
        ("args:1", "names no value"),
        ('queue:"open', "a quote is not closed"),
        ("queue:", "is given nothing"),
        ("queue:a\0b", "holds a NUL character"),
    ],
)
async def test_a_word_that_means_nothing_is_told_and_the_page_stays(
    reader: Reader, query: str, told: str
) -> None:
    page = await reader.get("/jobs", params={"q": query})
    assert page.status_code == 200
    assert told in page.text


async def test_what_is_redacted_is_shown_searched_and_edited_nowhere(
    open_dashboard: Opening, client: Oban
) -> None:
    job = await client.enqueue(
        Job(
            worker="app.Worker",
            args={"user": "ada", "card": {"number": "4111-secret"}},
            meta={"token": "hush-hush"},
        )
    )
    async with open_dashboard(redact=["number", "token"]) as reader:
        for path in ("/jobs", f"/jobs/{job.id}"):
            page = await reader.open(path)
            assert "ada" in page.text
            assert "4111-secret" not in page.text
            assert "hush-hush" not in page.text
        page = await reader.get("/jobs", params={"q": "args.card.number:4111-secret"})
        assert f'data-id="{job.id}"' not in page.text
        assert "not searched" in page.text
        answer = await reader.act(
            "/bulk/cancel", json={"q": "args.card.number:4111-secret", "state": None}
        )
        assert answer.status_code == 400


async def test_what_is_redacted_is_told_by_nothing_that_holds_it(
    open_dashboard: Opening, client: Oban
) -> None:
    from oban.recorded import encode

    job = await client.enqueue(
        Job(
            worker="app.Worker",
            args={"card": {"number": "4111-secret", "name": "ada"}, "cards": [{"number": "4222"}]},
            meta={"recorded": True, "return": encode({"number": "4333"})},
        )
    )
    coded = job.meta["return"]
    whole = [
        """args.card:'{"name": "ada", "number": "4111-secret"}'""",
        """args.cards:'[{"number": "4222"}]'""",
        """args.cards.0:'{"number": "4222"}'""",
        f"meta.return:{coded}",
    ]
    async with open_dashboard(redact=["number"]) as reader:
        for query in whole:
            page = await reader.get("/jobs", params={"q": query})
            assert f'data-id="{job.id}"' not in page.text, query
            assert "not searched" in page.text, query
            assert (await reader.get("/count", params={"q": query})).status_code == 400, query
        for by in ("args.card", "args.cards", "args.cards.0"):
            page = await reader.get("/stats", params={"by": by})
            assert "(redacted)" in page.text, by
            assert "4111-secret" not in page.text, by
            assert "4222" not in page.text, by
        assert "ada" in (await reader.get("/stats", params={"by": "args.card"})).text
        assert (await reader.get("/stats", params={"by": "meta.return"})).status_code == 400
        page = await reader.get(f"/jobs/{job.id}/edit")
        assert coded not in page.text
        assert coded not in (await reader.open(f"/jobs/{job.id}")).text
        answer = await reader.act(f"/jobs/{job.id}/edit", data={"meta": "{}"})
        assert "Nothing was changed" in answer.text
    async with open_dashboard() as reader:
        page = await reader.get("/jobs", params={"q": whole[0]})
        assert f'data-id="{job.id}"' in page.text


async def test_encrypted_arguments_are_shown_to_nobody(
    open_dashboard: Opening, oban_dsn: str
) -> None:
    pytest.importorskip("cryptography", reason="the extra `encrypted` is not installed")
    from cryptography.fernet import Fernet

    from oban import worker

    @worker(encrypted=True)
    class Private:
        async def process(self, job: Job) -> None: ...

    async with Oban(
        pool=oban_dsn, name="private", encryption_keys=[Fernet.generate_key().decode()]
    ) as oban:
        job = await oban.enqueue(Private.new({"card": "4111-secret"}))  # type: ignore[attr-defined]
    async with open_dashboard() as reader:
        for path in ("/jobs", f"/jobs/{job.id}"):
            page = await reader.get(path)
            assert "only nodes with the key can read it" in page.text
            assert "4111-secret" not in page.text


async def test_pages_follow_each_other_through_all_jobs_once(
    reader: Reader, client: Oban, oban_dsn: str
) -> None:
    jobs = await client.enqueue_many(
        Job(worker="app.Worker", queue=f"q{n % 3}", priority=n % 4) for n in range(100)
    )
    for state in ("", "available"):
        seen: list[int] = []
        path = f"/jobs?state={state}"
        while path:
            page = (await reader.get(path)).text
            seen += map(int, re.findall(r'data-id="(\d+)"', page))
            following = re.search(r'href="([^"]+)">Next<', page)
            path = html.unescape(following[1]) if following else ""
        assert sorted(seen) == sorted(job.id or 0 for job in jobs)


@pytest.mark.parametrize(
    "after",
    [
        "[true,null,null]",
        "[1,2]",
        "{}",
        "[" * 20_000,
        '["1",null,null]',
        f"[{2**63},null,null]",
        f"[{'9' * 5_000},null,null]",
        '[1,"x",1]',
        '[1,"\\u0000",1]',
        f'[1,"2026-01-01 00:00:00",{2**31}]',
        "nonsense",
    ],
)
async def test_a_page_that_begins_nowhere_is_the_first(
    reader: Reader, client: Oban, after: str
) -> None:
    job = await client.enqueue(Job(worker="app.Worker"))
    page = await reader.get("/jobs", params={"after": after})
    assert page.status_code == 200
    assert f'data-id="{job.id}"' in page.text


@pytest.mark.parametrize(
    ("every", "seconds"),
    [("1", 1), ("0", 0.5), ("-1", 0.5), ("1e9", 3_600), ("nan", 2), ("inf", 2), ("", 2), ("x", 2)],
)
def test_a_page_looks_again_within_bounds(every: str, seconds: float) -> None:
    assert interval_of(every) == seconds


async def test_a_database_that_is_away_is_a_page_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("oban.web.dashboard.PATIENCE", 0.2)
    monkeypatch.setattr("oban.web.dashboard.CONNECTING", 0.2)
    away = app("postgresql://nobody@localhost:1/nowhere")
    transport = httpx.ASGITransport(away, client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as reader:
        page = await reader.get("/jobs", timeout=60)
    assert page.status_code == 503
    assert "<h1>503</h1>" in page.text


@pytest.mark.parametrize(
    "path", ["/queues", "/nodes", "/cron", "/jobs", "/jobs/1", "/jobs/1/stack"]
)
async def test_a_page_waits_for_no_lock_for_long(
    reader: Reader, client: Oban, oban_dsn: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    for module in ("web.dashboard", "looking.census", "web.pages.job"):
        monkeypatch.setattr(f"oban.{module}.PATIENCE", 0.3)
    await client.enqueue(Job(worker="app.Worker"))
    with psycopg.connect(direct(oban_dsn)) as connection:
        found = connection.execute(
            "select relname from pg_class where relname like 'oban%' and relkind = 'r' "
            "and relnamespace = current_schema()::regnamespace"
        )
        names = ", ".join(name for (name,) in found.fetchall())
        connection.execute(f"lock table {names} in access exclusive mode")
        async with asyncio.timeout(10):
            page = await reader.get(path, timeout=20)
        assert page.status_code == 503
        assert "too long" in page.text
