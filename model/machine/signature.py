"""The signature of weights: what a machine makes of all that it reads, and what it must be."""

from collections.abc import Iterable, Sequence

__all__ = ["SIGNATURE_BITS", "SIGNATURE_POLYNOMIAL", "condensed", "returning_signature", "signature"]

SIGNATURE_BITS = 64
"""Of a signature, and of each word that it is made of."""

SIGNATURE_POLYNOMIAL = 0x1B
"""Of the signature register: x^64 + x^4 + x^3 + x + 1."""

_MASK = (1 << SIGNATURE_BITS) - 1


def signature(words: Iterable[int], start: int = 0) -> int:
    """What a signature register of `SIGNATURE_BITS` has after it took all of ``words``: shifted by one a word, with feedback."""
    found = start
    for word in words:
        found = (found << 1 & _MASK) ^ (SIGNATURE_POLYNOMIAL if found >> SIGNATURE_BITS - 1 else 0) ^ word
    return found


def returning_signature(words: Sequence[int]) -> int:
    """The one start to which ``words`` lead back: who takes them over and over need not begin anew.

    A shift is a multiplication by x in the field of 2^64 elements, as the polynomial is irreducible. So it is the signature
    from 0, divided by x^n + 1.
    """
    divisor = _power(2, len(words)) ^ 1
    # In that field a^(2^64 - 1) is 1.
    return _product(signature(words), _power(divisor, _MASK - 1))


def _product(left: int, right: int) -> int:
    """In the field of 2^64 elements."""
    found = 0
    for bit in reversed(range(SIGNATURE_BITS)):
        found = signature([right if left >> bit & 1 else 0], found)
    return found


def _power(base: int, exponent: int) -> int:
    """In the field of 2^64 elements."""
    found = 1
    while exponent:
        if exponent & 1:
            found = _product(found, base)
        base, exponent = _product(base, base), exponent >> 1
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
