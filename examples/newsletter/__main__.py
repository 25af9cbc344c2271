"""`python -m examples.newsletter`"""

import sys

try:
    from examples.newsletter.demo import main

    code = main()
except ModuleNotFoundError as missing:
    if missing.name is None or missing.name.partition(".")[0] in {"oban", "examples"}:
        raise
    sys.stderr.write(f"{missing}; run `make demo`, which installs what this example needs\n")
    code = 1
except KeyboardInterrupt:
    code = 130
sys.exit(code)
