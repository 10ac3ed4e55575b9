"""Idle sources and stalled sinks: the random numbers that the simulated hardware and the cycle models draw alike."""

from model.support.compiled import inlined

__all__ = ["SEED_FACTOR", "first_number", "shifted"]

SEED_FACTOR = 2654435769
"""By which a seed is multiplied, modulo 2^32: the golden ratio's, so that seeds close together begin far apart."""


def first_number(seed: int) -> int:
    """The number that the first one drawn is made from."""
    return (seed * SEED_FACTOR + 1) & 0xFFFFFFFF


@inlined
def shifted(value):  # type: ignore[no-untyped-def]
    """The number after ``value``: a linear feedback shift register of 32 bits (Marsaglia's xorshift)."""
    value ^= (value << 13) & 0xFFFFFFFF
    value ^= value >> 17
    value ^= (value << 5) & 0xFFFFFFFF
    return value
