"""Take the pictures of the dashboard from the running demo. `python docs/pictures.py`

It needs what the tests need, and a Chromium. Takes two minutes: charts want something to show.
"""

import asyncio
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, async_playwright

ROOT: Final = Path(__file__).parent.parent
IMAGES: Final = ROOT / "docs" / "images"
DEMO: Final = ("-m", "examples.newsletter", "--subscribers", "4000", "--limit", "16")
#: Seconds until there is enough to see.
PATIENCE: Final = 95
#: What is shown where, and how; `{job}` is one that cancelled itself: no path stands in its error.
PICTURES: Final = (
    ("jobs-light", "/jobs", "light"),
    ("jobs-dark", "/jobs?state=retryable", "dark"),
    ("job", "/jobs/{job}", "light"),
    ("queues", "/queues", "light"),
    ("metrics", "/metrics", "dark"),
)


async def main() -> None:
    demo = await asyncio.create_subprocess_exec(
        sys.executable, *DEMO, stdout=PIPE, stderr=STDOUT, cwd=ROOT, limit=2**20
    )
    try:
        address = await told(demo)
        reading = asyncio.create_task(demo.communicate())
        await asyncio.sleep(PATIENCE)
        async with async_playwright() as driver:
            browser = await driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            for name, path, scheme in PICTURES:
                await take(browser, address, name, path, scheme)
            await browser.close()
        reading.cancel()
    finally:
        demo.terminate()
        await demo.wait()


async def told(demo: asyncio.subprocess.Process) -> str:
    """The address of the dashboard, as the demo says it."""
    assert demo.stdout is not None
    async for line in demo.stdout:
        if found := re.search(r"http://[\d.:]+", line.decode()):
            return found[0]
    raise SystemExit("the demo has ended without a word of its dashboard")


async def take(browser: Browser, address: str, name: str, path: str, scheme: str) -> None:
    view = {"width": 1280, "height": 800}
    context = await browser.new_context(viewport=view, color_scheme=scheme)  # type: ignore[arg-type]
    page = await context.new_page()
    if "{job}" in path:
        await page.goto(f"{address}/jobs?state=cancelled")
        path = path.format(job=await page.get_attribute("tr[data-id]", "data-id"))
    await page.goto(address + path)
    await page.wait_for_timeout(1_500)
    await page.screenshot(path=IMAGES / f"dashboard-{name}.png")
    await context.close()


if __name__ == "__main__":
    asyncio.run(main())
