"""`python -m oban.embedded [FOLDER]` prints the address of its server and runs it until Ctrl-C."""

import argparse
import signal
import sys
from contextlib import suppress
from pathlib import Path

from oban.embedded import start
from oban.errors import EmbeddedError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m oban.embedded", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="where to keep the data")
    folder = parser.parse_args().folder
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        try:
            server = start(folder)
        except EmbeddedError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        with server:
            sys.stdout.write(f"{server.dsn}\n")
            sys.stdout.flush()
            while True:
                signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
