"""The command `oban`: running a node, its tables, and looking after jobs.

Each command is a thin layer over the public API and lies in a module of its own. What is asked for
goes to stdout, everything else to stderr; exit codes are 0 for fine, 1 for failed, 2 for wrong
usage.
"""

import sys
from collections.abc import Sequence

__all__ = ["main", "run"]


def main() -> int:
    return run(sys.argv[1:])


def run(arguments: Sequence[str]) -> int:
    """Carry out one command; return its exit code, with whatever went wrong said on stderr."""
    # Not above: each child process of a node imports this as its program, and runs no command.
    from oban.cli import program

    return program.run(arguments)
