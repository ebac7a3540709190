"""See DESIGN: one file, one noun."""

import os

# OpenMP's default spinning makes training crawl when anything else runs beside it: 400 tokens/s against 2,200 (docs/experiments.md). It is read when
# torch is loaded, by this process and by Ray's that it starts.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
