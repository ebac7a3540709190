"""`python -m jobs.finetune RECIPE`, for `ray job submit`: the same as `ernie finetune RECIPE`."""

from __future__ import annotations

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
