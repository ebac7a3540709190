"""`python -m jobs.prepare RECIPE`, for `ray job submit`: the same as `ernie prepare RECIPE`."""

from __future__ import annotations

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
