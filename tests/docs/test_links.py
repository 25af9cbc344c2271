"""Every relative link leads to a file, and every anchor to a heading."""

import re
from pathlib import Path

import pytest
from tests.docs.pages import NAMES, ROOT, prose

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
MORE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "examples/newsletter/README.md",
    "examples/fastapi/README.md",
)
FILES = [*NAMES, *(name for name in MORE if (ROOT / name).exists())]


def links(file: str) -> list[str]:
    return [link for link in LINK.findall(prose(file)) if "://" not in link]


def anchors(file: Path) -> set[str]:
    return {slug(heading) for heading in HEADING.findall(file.read_text("utf-8"))}


def slug(heading: str) -> str:
    """As GitHub and MkDocs make it, for the plain headings used here."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower())


@pytest.mark.parametrize("file", FILES)
def test_every_relative_link_leads_somewhere(file: str) -> None:
    for link in links(file):
        path, _, anchor = link.partition("#")
        target = (ROOT / file).parent / path if path else ROOT / file
        assert target.exists(), f"{file} links to {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{file} links to {link}"


def test_every_page_of_the_documentation_is_in_the_navigation() -> None:
    navigation = set(re.findall(r"([\w-]+\.md)", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert navigation == {Path(name).name for name in NAMES if name.startswith("docs/")}
