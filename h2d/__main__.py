"""``python -m h2d`` is ``h2d``."""

import sys

from h2d.cli import main

if __name__ == "__main__":
    sys.exit(main())
