"""Who is let in, what each role may do, and what a page of somebody else's cannot."""

import base64
import itertools
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.web.conftest import Opening, Reader

from oban import Job, Oban
from oban.engines.postgres import PostgresEngine
from oban.errors import InvalidOption
from oban.web import BasicAuth, Role, User, app
from oban.web.guessing import Guesses

USERS = {"ada": ("secret", "admin"), "olga": ("secret", "operate"), "rita": ("secret", "read")}


def basic(name: str, password: str = "secret") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


async def rows(engine: PostgresEngine) -> list[Any]:
    from oban.engines.reads import JobFilter

    found = await engine.execute(engine.search(JobFilter()))
    intents = await engine.execute(engine.intents("Oban"))
    return [found, intents]


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {"host": "[::1]:4000"}, 200),
        ("127.0.0.1", {"host": "localhost:4000"}, 200),
        ("10.0.0.7", {}, 403),
        ("10.0.0.7", {"host": "localhost"}, 403),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.7"}, 403),
        ("127.0.0.1", {"forwarded": "for=10.0.0.7"}, 403),
        ("127.0.0.1", {"x-forwarded-proto": "https"}, 403),
        ("127.0.0.1", {"via": "1.1 proxy"}, 403),
        # A page of somebody else's, whose name was made to lead here.
        ("127.0.0.1", {"host": "evil.example"}, 403),
        ("testclient", {}, 403),
    ],
)
async def test_without_auth_only_who_sits_here_is_let_in(
    open_dashboard: Opening, address: str, headers: dict[str, str], status: int
) -> None:
    async with open_dashboard(address=address) as reader:
        for path in ("/jobs", "/queues", "/static/oban.js"):
            assert (await reader.get(path, headers=headers)).status_code == status, path
        nowhere = (await reader.get("/nowhere", headers=headers)).status_code
        assert nowhere == (404 if status == 200 else status)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (basic("ada"), 200),
        (basic("rita"), 200),
        (basic("ada", "wrong"), 401),
        (basic("nobody"), 401),
        (basic("", ""), 401),
        ({}, 401),
        ({"authorization": "Basic ???"}, 401),
        ({"authorization": "Basic /////w=="}, 401),
        ({"authorization": "Bearer secret"}, 401),
    ],
)
async def test_a_user_is_known_by_name_and_password(
    open_dashboard: Opening, headers: dict[str, str], status: int
) -> None:
    async with open_dashboard(auth=BasicAuth(USERS), address="10.0.0.7") as reader:
        answer = await reader.get("/jobs", headers=headers)
        assert answer.status_code == status
        assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize(
    "users",
    [
        {"ada": ("", "admin")},
        {"": ("secret", "admin")},
        {"a:b": ("secret", "admin")},
        {"ada": ("secret", "root")},
    ],
)
def test_users_without_a_password_or_a_known_role_are_refused(
    users: dict[str, tuple[str, str]],
) -> None:
    with pytest.raises(InvalidOption):
        BasicAuth(users)


async def test_who_guesses_waits_and_who_was_right_does_not(
    open_dashboard: Opening, client: Oban
) -> None:
    made = app(client, auth=BasicAuth(USERS))

    def from_(address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(made, client=(address, 5000))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async with from_("10.0.0.7") as guesser, from_("10.0.0.8") as other:
        assert (await guesser.get("/jobs", headers=basic("rita"))).status_code == 200
        wrong = [await guesser.get("/jobs", headers=basic("ada", str(n))) for n in range(8)]
        assert [each.status_code for each in wrong] == [401] * 6 + [429] * 2
        assert int(wrong[-1].headers["retry-after"]) >= 1
        assert "try again in" in wrong[-1].text
        # Not even what is right is looked at, unless it was right before.
        assert (await guesser.get("/jobs", headers=basic("ada"))).status_code == 429
        assert (await guesser.get("/jobs", headers=basic("rita"))).status_code == 200
        assert (await other.get("/jobs", headers=basic("ada"))).status_code == 200
        assert (await guesser.get("/jobs")).status_code == 401


def test_a_wait_grows_to_a_bound_and_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    guesses = Guesses(clock=lambda: now)
    waits = []
    for _ in range(20):
        now += guesses.wait("a", "wrong")
        guesses.were_wrong("a")
        waits.append(guesses.wait("a", "wrong"))
    assert waits[:8] == [0, 0, 0, 0, 0, 1, 2, 4]
    assert max(waits) == waits[-1] == 60
    assert guesses.wait("b", "wrong") == 0
    for n in range(10):
        guesses.were_wrong(f"2001:db8::{n}")
    assert guesses.wait("2001:db8::99", "wrong") > 0
    assert guesses.wait("2001:db8:0:1::99", "wrong") == 0
    now += 901
    guesses.were_wrong("a")
    assert guesses.wait("a", "wrong") == 0
    monkeypatch.setattr("oban.web.guessing.MOST", 100)
    for n in range(1_000):
        guesses.were_wrong(str(n))
        guesses.were_right(str(n))
    assert len(guesses.missed) == len(guesses.right) == 100
    assert b"999" not in guesses.right


async def test_dashboards_of_one_host_take_no_others_cookie(client: Oban) -> None:
    """A browser sends a cookie to all ports, and what is set for a path below it as well."""
    job = await client.enqueue(Job(worker="app.Worker"))
    host = Starlette(routes=[Mount("/oban", app(client)), Mount("/", app(client))])
    transport = httpx.ASGITransport(host, client=("127.0.0.1", 5000))
    async with Reader(transport=transport, base_url="http://localhost:4000") as reader:
        await reader.open("/oban/jobs")
        below = reader.token
        await reader.open("/jobs")
        assert reader.token != below
        await reader.open("http://localhost:4001/jobs")
        assert len({each.name for each in reader.cookies.jar}) == 3
        reader.token = below
        answer = await reader.act(f"/oban/jobs/{job.id}/cancel")
        assert answer.status_code == 200
        assert {each.path for each in reader.cookies.jar} == {"/", "/oban/"}


async def test_a_function_says_who_asks(open_dashboard: Opening) -> None:
    async def who(request: Any) -> User | None:
        name = request.headers.get("x-user")
        return User(name, Role.READ) if name else None

    async with open_dashboard(auth=who) as reader:
        assert (await reader.get("/jobs")).status_code == 403
        answer = await reader.get("/jobs", headers={"x-user": "<b>ada</b>"})
        assert answer.status_code == 200
        assert "&lt;b&gt;ada&lt;/b&gt;" in answer.text


async def test_every_answer_forbids_what_no_page_of_ours_needs(reader: Reader) -> None:
    for path in ("/jobs", "/queues", "/static/oban.js", "/nowhere", "/jobs/1"):
        headers = (await reader.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
    cookie = (await reader.get("/jobs", headers={"cookie": ""})).headers.get("set-cookie", "")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def every_route() -> list[str]:
    """The paths of all routes, with something in the place of what varies."""
    given = {
        "{id}": ["1"],
        "{action}": ["cancel", "retry", "delete", "run", "clone", "edit", "bogus"],
        "{queue}": ["default"],
        "{command}": ["pause", "resume", "scale", "start", "stop", "reset", "bogus"],
        "{entry:path}": ["an entry"],
        "{verb}": ["pause", "resume", "run"],
    }
    paths = []
    for route in app("postgresql://nowhere").routes:
        if not isinstance(route, Route):
            continue
        names = [name for name in given if name in route.path]
        for values in itertools.product(*(given[name] for name in names)):
            path = route.path
            for name, value in zip(names, values, strict=True):
                path = path.replace(name, value)
            paths.append(path)
    return [path for path in paths if path != "/live"]


@pytest.mark.parametrize("how", ["a reader", "read-only"])
async def test_who_may_only_read_changes_nothing_by_any_route_and_method(
    open_dashboard: Opening, client: Oban, engine: PostgresEngine, how: str
) -> None:
    job = await client.enqueue(Job(worker="app.Worker", args={"n": 1}))
    options: dict[str, Any] = {"read_only": True} if how == "read-only" else {}
    name = "ada" if how == "read-only" else "rita"
    before = await rows(engine)
    async with open_dashboard(auth=BasicAuth(USERS), **options) as reader:
        reader.headers.update(basic(name))
        await reader.open()
        bodies: list[dict[str, Any]] = [
            {},
            {"json": {"ids": [job.id]}},
            {"json": {"q": "", "state": None}},
            {"data": {"node": "", "limit": "5", "args": "{}", "queue": "other"}},
        ]
        for path in every_route():
            path = path.replace("/1", f"/{job.id}")
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                for body in bodies:
                    headers = {"x-csrf-token": reader.token}
                    answer = await reader.request(method, path, headers=headers, **body)
                    assert answer.status_code in (403, 404, 405), (method, path, answer.text)
            assert (await reader.get(path)).status_code < 500
    assert await rows(engine) == before


@pytest.mark.parametrize(
    ("path", "lowest"),
    [
        ("/jobs/{id}/cancel", "operate"),
        ("/jobs/{id}/retry", "operate"),
        ("/jobs/{id}/clone", "operate"),
        ("/jobs/{id}/edit", "admin"),
        ("/jobs/{id}/delete", "admin"),
        ("/bulk/cancel", "operate"),
        ("/bulk/delete", "admin"),
        ("/queues/default/pause", "operate"),
        ("/queues/default/scale", "operate"),
        ("/queues/default/stop", "admin"),
        ("/queues/default/start", "admin"),
    ],
)
async def test_a_role_may_do_what_those_before_it_may_and_no_more(
    open_dashboard: Opening, client: Oban, path: str, lowest: str
) -> None:
    for name, role in (("rita", Role.READ), ("olga", Role.OPERATE), ("ada", Role.ADMIN)):
        job = await client.enqueue(Job(worker="app.Worker"))
        async with open_dashboard(auth=BasicAuth(USERS)) as reader:
            reader.headers.update(basic(name))
            sent: dict[str, Any] = (
                {"json": {"ids": [job.id]}} if "bulk" in path else {"data": {"limit": "3"}}
            )
            answer = await reader.act(path.format(id=job.id), **sent)
            assert (answer.status_code == 200) == (role >= Role.named(lowest)), answer.text
            if answer.status_code != 200:
                assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"x-csrf-token": ""},
        {"x-csrf-token": "A" * 43},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://[localhost"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"cookie": ""},
        {"cookie": "oban_csrf=short"},
    ],
)
async def test_what_no_page_of_ours_has_sent_does_nothing(
    reader: Reader, client: Oban, headers: dict[str, str]
) -> None:
    job = await client.enqueue(Job(worker="app.Worker"))
    await reader.open()
    if "cookie" in headers:
        reader.cookies.clear()
    answer = await reader.act(f"/jobs/{job.id}/cancel", headers=headers)
    assert answer.status_code == 403
    assert (await client.get_job(job)).state == "available"  # type: ignore[union-attr]


async def test_what_somebody_has_done_is_told(
    open_dashboard: Opening, client: Oban, events: list[tuple[str, Any]]
) -> None:
    job = await client.enqueue(Job(worker="app.Worker"))
    async with open_dashboard(auth=BasicAuth(USERS)) as reader:
        reader.headers.update(basic("olga"))
        await reader.act(f"/jobs/{job.id}/cancel")
        await reader.act("/queues/default/pause")
    told = [metadata for name, metadata in events if name == "oban.web.action"]
    assert [(each["user"], each["role"], each["action"]) for each in told] == [
        ("olga", "operate", "cancel"),
        ("olga", "operate", "queue_pause"),
    ]
    assert told[0]["ids"] == [job.id]


async def test_a_proxy_that_adds_no_header_is_known_by_how_it_speaks(client: Oban) -> None:
    transport = httpx.ASGITransport(speaking_as("1.0", app(client)), client=("127.0.0.1", 5000))
    async with Reader(transport=transport, base_url="http://localhost") as reader:
        assert (await reader.get("/jobs")).status_code == 403


def speaking_as(version: str, inner: ASGIApp) -> ASGIApp:
    async def spoken(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, "http_version": version}, receive, send)

    return spoken


@pytest.mark.parametrize("path", ["/jobs", "/live", "/static/oban.js"])
async def test_a_websocket_is_closed_whoever_opens_it(client: Oban, path: str) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": path, "headers": [], "query_string": b""}
    await app(client)(scope, receive, send)
    assert [each["type"] for each in sent] == ["websocket.close"]


async def test_the_application_around_keeps_its_own_user(client: Oban) -> None:
    state = {"user": "of the application"}

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        await app(client)({**scope, "state": state}, receive, send)

    transport = httpx.ASGITransport(around, client=("127.0.0.1", 5000))
    async with Reader(transport=transport, base_url="http://localhost") as reader:
        assert (await reader.get("/jobs")).status_code == 200
    assert state == {"user": "of the application"}


async def test_a_page_shows_why_an_action_was_refused(reader: Reader) -> None:
    await reader.open()
    answer = await reader.act("/queues/default/pause", headers={"x-csrf-token": ""})
    assert answer.headers["hx-retarget"] == "#notes"
    assert "load the page again" in answer.text


def test_one_key_to_redact_is_not_taken_for_its_letters(client: Oban) -> None:
    with pytest.raises(InvalidOption, match="a list of keys"):
        app(client, redact="number")
