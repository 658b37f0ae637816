"""``python -m robostack.cli`` is the same as ``robostack``."""

import sys

from robostack.cli import main

if __name__ == "__main__":
    sys.exit(main())
