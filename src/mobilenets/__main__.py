"""`python -m mobilenets` is the command `mobilenets`."""

import sys

from mobilenets.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
