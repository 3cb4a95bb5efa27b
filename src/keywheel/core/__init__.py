"""Pure decisions: no I/O, no clock, no chance, no threads. `now` is always an argument (UTC seconds)."""
