"""`python -m keywheel` is `keywheel`."""

from keywheel.cli import main

main()
