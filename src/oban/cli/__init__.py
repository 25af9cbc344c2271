"""The command `oban`: running a node, its tables, and looking after jobs.

Each command is a thin layer over the public API and lies in a module of its own. What is asked for
goes to stdout, everything else to stderr; exit codes are 0 for fine, 1 for failed, 2 for wrong
usage.
"""

from oban.cli.program import main, run

__all__ = ["main", "run"]
