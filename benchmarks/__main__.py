"""``python -m benchmarks``."""

import sys

from benchmarks.command import main

if __name__ == "__main__":  # a worker of some peer may import its parent's main module
    sys.exit(main())
