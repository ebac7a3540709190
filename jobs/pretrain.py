"""`python -m jobs.pretrain RECIPE`, for `ray job submit`: the same as `ernie pretrain RECIPE`."""

from __future__ import annotations

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
