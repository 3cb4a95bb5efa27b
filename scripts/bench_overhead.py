"""What keywheel costs beside nginx: CPU per request and per event, added latency, memory. `--help` says more."""

import sys

from bench.command import main

if __name__ == "__main__":
    sys.exit(main())
