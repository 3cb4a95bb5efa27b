"""The policy bench: the real routing core against rivals and an oracle, in a simulated world on a virtual clock."""
