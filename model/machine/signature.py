"""The signature of weights: what a machine makes of all that it reads, and what it must be."""

from collections.abc import Iterable

__all__ = ["SIGNATURE_BITS", "SIGNATURE_POLYNOMIAL", "condensed", "signature"]

SIGNATURE_BITS = 64
"""Of a signature, and of each word that it is made of."""

SIGNATURE_POLYNOMIAL = 0x1B
"""Of the signature register: x^64 + x^4 + x^3 + x + 1."""

_MASK = (1 << SIGNATURE_BITS) - 1


def signature(words: Iterable[int]) -> int:
    """What a signature register of `SIGNATURE_BITS` has after it took all of ``words``: shifted by one a word, with feedback."""
    found = 0
    for word in words:
        found = (found << 1 & _MASK) ^ (SIGNATURE_POLYNOMIAL if found >> SIGNATURE_BITS - 1 else 0) ^ word
    return found


def condensed(word: int) -> int:
    """A word of any width in `SIGNATURE_BITS`: its pieces of so many bits, the n-th rotated by n towards the top, added
    without carry.

    Each bit of the word is in exactly one bit of the result, so that a single wrong one is seen. Without rotation equal pieces
    would cancel each other, such as those of banks that hold the same weights.
    """
    found, number = 0, 0
    while word:
        piece, by = word & _MASK, number % SIGNATURE_BITS
        found ^= (piece << by | piece >> SIGNATURE_BITS - by) & _MASK
        word >>= SIGNATURE_BITS
        number += 1
    return found
