"""`python -m oban`, the same as the command `oban`."""

import sys

from oban.cli import main

if __name__ == "__main__":
    sys.exit(main())
