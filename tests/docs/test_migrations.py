"""The migrations of the installation page, verbatim, by real Alembic and real Django."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import titled
from tests.engines.catalog import names
from tests.engines.test_schema_elsewhere import ALEMBIC, DJANGO, Modules, modules, write

PAGE = "docs/installation.md"
TABLES = {"oban_jobs", "oban_owners", "oban_migrations"}


@pytest.fixture(scope="module")
def alembic() -> Iterator[Modules]:
    with modules() as found:
        yield found


@pytest.mark.parametrize(
    ("file", "driver"),
    [
        ("0001_add_oban", "psycopg"),
        ("0001_add_oban", "psycopg2"),
        pytest.param(
            "0002_add_oban_by_asyncpg",
            "asyncpg",
            marks=pytest.mark.own_session("asyncpg prepares what Alembic sends"),
        ),
    ],
)
def test_alembic_runs_the_migration(
    dsn: str, tmp_path: Path, file: str, driver: str, alembic: Modules
) -> None:
    project = {name: text for name, text in ALEMBIC.items() if "versions" not in name}
    migration = titled(PAGE, f"migrations/versions/{file}.py")
    write(tmp_path, {**project, f"scripts/versions/{file}.py": migration})
    environment = {"DSN": dsn, "DRIVER": driver}
    alembic.run(tmp_path, "alembic", "upgrade", "head", **environment)
    assert names(dsn, "relation") >= TABLES
    alembic.run(tmp_path, "alembic", "downgrade", "base", **environment)
    assert names(dsn, "relation").isdisjoint(TABLES)


INITIAL = """
    from django.db import migrations

    class Migration(migrations.Migration):
        initial = True
"""


def test_django_runs_the_migration(dsn: str, tmp_path: Path) -> None:
    settings = DJANGO["settings.py"].replace('"jobs"', '"newsletter"')
    migrations = "newsletter/migrations"
    write(
        tmp_path,
        {
            "settings.py": settings,
            "newsletter/__init__.py": "",
            f"{migrations}/__init__.py": "",
            f"{migrations}/0001_initial.py": INITIAL,
            f"{migrations}/0002_oban.py": titled(PAGE, f"{migrations}/0002_oban.py"),
        },
    )
    environment = {"DSN": dsn, "DJANGO_SETTINGS_MODULE": "settings"}
    with modules() as django:
        django.run(tmp_path, "django", "migrate", **environment)
        assert names(dsn, "relation") >= TABLES
        django.run(tmp_path, "django", "migrate", "newsletter", "0001", **environment)
        assert names(dsn, "relation").isdisjoint(TABLES)
