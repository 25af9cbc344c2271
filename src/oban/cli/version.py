"""`oban version`."""

import platform
from importlib.metadata import version as version_of

import typer

from oban.cli.options import JsonOption
from oban.cli.terminal import print_json
from oban.running.process import version as oban_version


def version(as_json: JsonOption = False) -> None:
    """Print the version of Oban, and those of what it stands on."""
    versions = {
        "oban": oban_version(),
        "python": platform.python_version(),
        "psycopg": version_of("psycopg"),
    }
    if as_json:
        print_json(versions)
    else:
        typer.echo("oban {oban} (Python {python}, psycopg {psycopg})".format(**versions))
