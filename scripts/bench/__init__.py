"""The overhead benchmark: a fake upstream, a load generator and what is measured with them. Linux only."""
