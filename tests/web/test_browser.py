"""The dashboard in a real browser: what is clicked is done, and what is seen can be used."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.running.support import eventually, reached

from oban import Job, Oban, worker
from oban.engines.postgres import PostgresEngine
from oban.web import app, serving

playwright = pytest.importorskip(
    "playwright.async_api", reason="playwright is not installed: no browser is tried"
)
axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="no axe is installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: no browser is tried"),
    pytest.mark.slow,
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
async def site(client: Oban) -> AsyncIterator[str]:
    """The address of the dashboard, mounted below another application's root."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    host = Starlette(routes=[Mount("/oban", app(client, refresh=0.5))])
    async with serving(host) as address:
        yield f"{address.replace('127.0.0.1', 'localhost')}/oban"


@pytest.fixture
async def page(site: str) -> AsyncIterator[Any]:
    """A page that fails its test where a script fails, or the policy keeps something out."""
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = await browser.new_context(viewport={"width": 1280, "height": 800})
        opened = await context.new_page()
        opened.set_default_timeout(10_000)
        troubles: list[str] = []
        opened.on("pageerror", lambda error: troubles.append(str(error)))
        opened.on(
            "console",
            lambda told: troubles.append(told.text) if "Content Security" in told.text else None,
        )
        opened.site = site
        yield opened
        found = list(troubles)  # a page that is being closed takes answers badly
        await browser.close()
        assert found == []


async def test_jobs_that_are_selected_are_cancelled(page: Any, client: Oban) -> None:
    jobs = await client.enqueue_many(Job(worker="app.mail.Welcome") for _ in range(3))
    await page.goto(f"{page.site}/jobs")
    for job in jobs[:2]:
        await page.check(f"tr[data-id='{job.id}'] .one")
    await page.wait_for_timeout(1_200)  # it has looked again meanwhile
    assert await page.inner_text("#selected") == "2 selected"
    await page.click("button[data-act=cancel]")
    await page.wait_for_selector(".note")
    assert "2 of 2 jobs cancelled." in await page.inner_text(".note")
    states = [(await client.get_job(job)).state for job in jobs]  # type: ignore[union-attr]
    assert states == ["cancelled", "cancelled", "available"]
    await page.wait_for_selector(f"tr[data-id='{jobs[0].id}'] .state-cancelled")


async def test_all_that_match_are_deleted_once_that_is_confirmed(page: Any, client: Oban) -> None:
    await client.enqueue_many(Job(worker="app.A", queue="a" if n % 2 else "b") for n in range(90))
    await page.goto(f"{page.site}/jobs")
    await page.fill("#q", "queue:a")
    await page.press("#q", "Enter")
    await page.wait_for_url("**q=queue%3Aa**")
    await page.check("#every-match")
    await page.click("button[data-act=delete]")
    await page.wait_for_selector("#sure[open]")
    assert await page.inner_text("#sure-title") == "Delete 45 jobs?"
    await page.click("#sure-no")
    assert len(await every_job(client)) == 90
    await page.click("button[data-act=delete]")
    await page.click("#sure-yes")
    await page.wait_for_selector(".note")
    assert "45 jobs deleted." in await page.inner_text(".note")
    assert {job.queue for job in await every_job(client)} == {"b"}


async def every_job(client: Oban) -> list[Job]:
    from oban.engines.reads import JobFilter

    return await client.list_jobs(JobFilter(limit=1_000))


async def test_a_running_job_is_cancelled_from_its_page(page: Any, oban_dsn: str) -> None:
    began = asyncio.Event()

    @worker
    class Endless:
        async def process(self, job: Job) -> None:
            began.set()
            await asyncio.sleep(60)

    async with Oban(
        pool=oban_dsn, name="runs", queues={"default": 1}, cancel_grace_period=0
    ) as oban:
        job = await oban.enqueue(Endless.new())  # type: ignore[attr-defined]
        await began.wait()
        await page.goto(f"{page.site}/jobs/{job.id}")
        assert "executing" in await page.inner_text("#job .state")
        await page.click("#job button:has-text('Cancel')")
        await reached(oban, job, "cancelled")
        await page.wait_for_selector("#job .state-cancelled")


async def test_a_job_is_edited_cloned_and_deleted_from_its_page(page: Any, client: Oban) -> None:
    job = await client.enqueue(Job(worker="app.A", args={"n": 1}))
    await page.goto(f"{page.site}/jobs/{job.id}")
    await page.click("#job button:has-text('Edit')")
    await page.fill("textarea[name=args]", '{"n": 2}')
    await page.click("text=Save")
    await page.wait_for_selector("#job pre:has-text('\"n\": 2')")
    assert (await client.get_job(job)).args == {"n": 2}  # type: ignore[union-attr]
    await page.click("#job button:has-text('Clone')")
    await page.wait_for_url(lambda url: not url.endswith(f"/{job.id}"))
    await page.goto(f"{page.site}/jobs/{job.id}")
    await page.click("#job button:has-text('Delete')")
    await page.click("#sure-yes")
    await page.wait_for_url("**/jobs")
    assert await client.get_job(job) is None


async def test_a_queue_is_paused_scaled_and_resumed(
    page: Any, client: Oban, oban_dsn: str, engine: PostgresEngine
) -> None:
    quick = {"interval": 0.2, "max_age": 2}
    async with Oban(pool=oban_dsn, node="web-1", queues={"media": 3}, refresher=quick) as oban:
        await page.goto(f"{page.site}/queues")
        row = page.locator("tbody[data-queue=media]")
        await row.locator("text=Pause").first.click()

        async def is_paused() -> bool:
            return bool(oban.check_queue("media").paused)  # type: ignore[union-attr]

        await eventually(is_paused)
        await page.wait_for_selector("tbody[data-queue=media] .queue-paused")
        await row.locator("text=Scale").click()
        await page.fill("#scale input[name=limit]", "9")
        await page.click("#scale button.primary")

        async def is_scaled() -> bool:
            return oban.check_queue("media").limit == 9  # type: ignore[union-attr]

        await eventually(is_scaled)
        await row.locator("text=Resume").first.click()
        await page.wait_for_selector("tbody[data-queue=media] .queue-running")


async def test_what_came_of_an_action_is_told_though_the_page_has_looked_again_meanwhile(
    page: Any, client: Oban, oban_dsn: str
) -> None:
    looked = asyncio.Event()

    async def hold(route: Any) -> None:
        if route.request.method == "POST":
            await asyncio.wait_for(looked.wait(), 10)
        await route.continue_()

    async with Oban(pool=oban_dsn, node="web-1", queues={"media": 3}):
        await page.goto(f"{page.site}/queues")
        await page.select_option("#every", "1")
        await page.route("**/queues/media/**", hold)
        await page.locator("tbody[data-queue=media] >> text=Pause").first.click()
        for _ in range(2):
            async with page.expect_response(lambda answer: "/queues?" in answer.url):
                pass
        looked.set()
        await page.wait_for_selector("#notes .note")
        await page.wait_for_selector("tbody[data-queue=media] .queue-paused")


async def test_a_page_follows_what_happens_also_without_events(page: Any, client: Oban) -> None:
    await page.route("**/live**", lambda route: route.abort())
    await page.goto(f"{page.site}/jobs")
    await page.wait_for_selector(".dot.polls")
    job = await client.enqueue(Job(worker="app.A"))
    await page.wait_for_selector(f"tr[data-id='{job.id}']")


async def test_everything_can_be_reached_by_the_keyboard(page: Any, client: Oban) -> None:
    first, second = await client.enqueue_many(Job(worker="app.A"), Job(worker="app.A"))
    await page.goto(f"{page.site}/jobs")
    await page.select_option("#every", "0")
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("x")
    assert await page.is_checked(f"tr[data-id='{first.id}'] .one")
    await page.focus(f"tr[data-id='{second.id}']")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/jobs/{second.id}")
    await page.keyboard.press("q")
    await page.wait_for_url("**/queues")
    await page.keyboard.press("?")
    assert await page.is_visible("#keys")
    await page.keyboard.press("Escape")
    await page.keyboard.press("/")
    await page.wait_for_url("**/jobs")
    await page.keyboard.press("/")
    assert await page.evaluate("document.activeElement.id") == "q"


async def test_no_script_of_a_row_runs(page: Any, client: Oban) -> None:
    evil = '<img src=x onerror="document.title=1"><script>document.title=1</script>'
    job = await client.enqueue(
        Job(worker=evil[:120], queue=evil[:120], args={evil: evil}, meta={evil: evil}, tags=[evil])
    )
    for path in ("/jobs", f"/jobs/{job.id}", "/queues"):
        await page.goto(page.site + path)
        await page.wait_for_timeout(200)
        assert "Oban" in await page.title()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
async def test_everybody_can_use_it(page: Any, client: Oban, scheme: str, width: int) -> None:
    """No finding of axe's, and nothing wider than the window."""
    await client.enqueue_many(Job(worker="app.mail.Welcome", tags=["x"]) for _ in range(3))
    job = await client.enqueue(Job(worker="app.mail.Welcome", args={"n": 1}, priority=2))
    await client.cancel_job(job)
    await page.set_viewport_size({"width": width, "height": 800})
    await page.emulate_media(color_scheme=scheme)
    for path in ("/jobs", f"/jobs/{job.id}", "/queues", "/cron", "/nodes", "/jobs?q=nothing"):
        await page.goto(page.site + path)
        await page.wait_for_timeout(50)
        found = await axe.Axe().run(page, options={"runOnly": RULES})
        told = [
            (each["id"], node["html"][:120])
            for each in found.response["violations"]
            for node in each["nodes"]
        ]
        assert told == [], path
        wider = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, path
