"""Asking before something is changed that cannot be changed back."""

import typer

from oban.cli.failures import WrongUsage
from oban.cli.terminal import attended


def confirm(question: str, *, yes: bool) -> None:
    """Return if the answer is yes, given by `--yes` or by a person; raise Abort otherwise."""
    if yes:
        return
    if not attended():
        raise WrongUsage(f"{question} Nobody is here to answer; say so with --yes")
    if not typer.confirm(question, err=True):
        raise typer.Abort
