"""How a command ends that could not do what it was asked."""

import os
import sys
import traceback
from difflib import get_close_matches
from typing import Final

import typer
from rich.text import Text

from oban.cli.terminal import messages, printable
from oban.errors import InvalidOption, ObanError

FAILED: Final = 1
WRONG_USAGE: Final = 2
INTERRUPTED: Final = 130

#: What Typer raises for wrong usage: click's class, of which newer versions carry their own copy.
UsageError: Final = typer.BadParameter.__bases__[0]


class WrongUsage(typer.BadParameter):
    """Options that do not go together, or a value that no option takes."""

    def format_message(self) -> str:
        return self.message


class Failed(Exception):
    """The command failed, for a reason that is no error of the library."""


def report(error: BaseException) -> int:
    """Say what went wrong, on stderr, and return the exit code that means it."""
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else FAILED
        case typer.Exit():
            return error.exit_code
        case typer.Abort():
            complain("nothing was changed")
            return FAILED
        case KeyboardInterrupt():
            return INTERRUPTED
        case BrokenPipeError():
            forget_stdout()
            return FAILED
        case InvalidOption():
            complain(str(error))
            return WRONG_USAGE
        case ObanError() | Failed():
            complain(str(error))
            return FAILED
        case _ if isinstance(error, UsageError):
            return report_usage(error)
        case _:
            traceback.print_exception(error)
            return FAILED


def report_usage(error: BaseException) -> int:
    message = usage_message(error)
    if not message:  # without arguments, help was printed
        return WRONG_USAGE
    complain(message)
    if (context := getattr(error, "ctx", None)) is not None:
        hint = f"`{context.command_path} --help` tells how it is used"
        messages().print(Text(hint, "dim"), soft_wrap=True)
    return WRONG_USAGE


def usage_message(error: BaseException) -> str:
    """In one line, with the nearest of the names there are for one that there is not."""
    if (wrong := getattr(error, "option_name", None)) and (known := near(wrong, error)):
        return f"there is no option {wrong}; did you mean {known}?"
    message: str = getattr(error, "format_message", error.__str__)()
    return " ".join(message.replace("Value error, ", "").split())


def near(wrong: str, error: BaseException) -> str | None:
    """The most alike of the options that Typer thinks possible, which it lists by the alphabet."""
    return next(iter(get_close_matches(wrong, getattr(error, "possibilities", None) or ())), None)


def complain(message: str) -> None:
    text = Text.assemble(("error: ", "bold red"), printable(message))
    messages().print(text, soft_wrap=True)


def forget_stdout() -> None:
    """Whoever read our output has left, as `head` does; do not fail again when flushing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
