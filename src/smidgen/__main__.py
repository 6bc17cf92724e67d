"""`python -m smidgen` is `smidgen`."""

import sys

from smidgen.cli import main

# Worker processes import this module again, under another name.
if __name__ == "__main__":
    sys.exit(main())
