"""The signature of weights as hardware: one more word of it, and words of any width as those that it takes."""

from amaranth.hdl import Cat, Const, Mux, Value

from model.machine.signature import SIGNATURE_BITS, SIGNATURE_POLYNOMIAL

__all__ = ["absorbed", "condensed"]


def absorbed(found: Value, word: Value) -> Value:
    """What the signature ``found`` is after one more word (`model.machine.signature.signature`)."""
    feedback = Mux(found[-1], SIGNATURE_POLYNOMIAL, 0)
    return (found << 1) ^ feedback ^ word


def condensed(word: Value) -> Value:
    """A word of any width in at most `SIGNATURE_BITS`, as `model.machine.signature.condensed`."""
    word = Value.cast(word)
    if len(word) <= SIGNATURE_BITS:
        return word
    found: Value = Const(0, SIGNATURE_BITS)
    for number, start in enumerate(range(0, len(word), SIGNATURE_BITS)):
        piece = word[start : start + SIGNATURE_BITS]
        found ^= Cat(piece, Const(0, SIGNATURE_BITS - len(piece))).rotate_left(number % SIGNATURE_BITS)
    return found
