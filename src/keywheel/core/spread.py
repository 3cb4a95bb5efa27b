"""Deterministic jitter: a number in [0, 1) from names, so that the core needs no chance and every run can
be repeated."""

from hashlib import blake2b


def spread(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone (seed, scope, epoch, worker …)."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest()) / 2**64
