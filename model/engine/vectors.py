"""Operations on a block of `LANES` neurons, for compiled functions: each is a few instructions of the processor.

A compiler makes vectors of a loop only behind a test that its arrays do not overlap, and gathers what it found at the loop's end.
Both take longer than a run of neurons does.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

__all__ = ["LANES", "accumulate", "add", "first_of", "outside"]

LANES = 16
"""Neurons of a block."""


class _Blocks:
    """Code for blocks of an array.

    Parameters
    ----------
    context, builder : Any
        Of the code that is being made.
    kind : types.Array
        The array's type.
    array : Any
        The array.
    """

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        self._builder = builder
        self._first = make_array(kind)(context, builder, array).data
        self._vector = ir.VectorType(context.get_data_type(kind.dtype), LANES)
        self._align = kind.dtype.bitwidth // 8

    def load(self, index: Any) -> Any:
        return self._builder.load(self._at(index), align=self._align)

    def store(self, values: Any, index: Any) -> None:
        self._builder.store(values, self._at(index), align=self._align)

    def _at(self, index: Any) -> Any:
        return self._builder.bitcast(self._builder.gep(self._first, [index]), self._vector.as_pointer())


def _everywhere(builder: Any, value: Any) -> Any:
    """A vector of one value."""
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0)), nothing, first)


def _beyond(builder: Any, values: Any, below: Any, least: Any, above: Any) -> Any:
    """A bit for each value below its own limit or ``least``, or above the limit of all."""
    least, above = _everywhere(builder, least), _everywhere(builder, above)
    low = builder.select(builder.icmp_signed(">", below, least), below, least)
    found = builder.or_(builder.icmp_signed("<", values, low), builder.icmp_signed(">", values, above))
    return builder.zext(builder.bitcast(found, ir.IntType(LANES)), ir.IntType(64))


def _added(builder: Any, residuals: _Blocks, neuron: Any, drive: Any, times: Any) -> Any:
    total = builder.add(residuals.load(neuron), builder.mul(drive, _everywhere(builder, times)))
    residuals.store(total, neuron)
    return total


@intrinsic
def accumulate(_, residual, neuron, weights, weight, times):  # type: ignore[no-untyped-def]
    """Add a block of weights, so many times, to the residuals from ``neuron`` on; what does not fit wraps."""
    signature = types.void(residual, types.uintp, weights, types.uintp, residual.dtype)

    def made(context: Any, builder: Any, _: Any, given: Any) -> Any:
        residuals, drives = (_Blocks(context, builder, kind, given[n]) for kind, n in ((residual, 0), (weights, 2)))
        _added(builder, residuals, given[1], drives.load(given[3]), given[4])
        return context.get_dummy_value()

    return signature, made


@intrinsic
def add(_, residual, neuron, weights, weight, times, below, least, above):  # type: ignore[no-untyped-def]
    """As `accumulate`, and then as `outside`."""
    signature = types.uint64(residual, types.uintp, weights, types.uintp, *[residual.dtype], below, *[residual.dtype] * 2)

    def made(context: Any, builder: Any, _: Any, given: Any) -> Any:
        residuals, drives, limits = (
            _Blocks(context, builder, kind, given[n]) for kind, n in ((residual, 0), (weights, 2), (below, 5))
        )
        total = _added(builder, residuals, given[1], drives.load(given[3]), given[4])
        return _beyond(builder, total, limits.load(given[1]), given[6], given[7])

    return signature, made


@intrinsic
def outside(_, residual, neuron, below, least, above):  # type: ignore[no-untyped-def]
    """A bit for each residual of the block from ``neuron`` on that is below its limit or ``least``, or is above ``above``."""
    signature = types.uint64(residual, types.uintp, below, residual.dtype, residual.dtype)

    def made(context: Any, builder: Any, _: Any, given: Any) -> Any:
        residuals, limits = (_Blocks(context, builder, kind, given[n]) for kind, n in ((residual, 0), (below, 2)))
        return _beyond(builder, residuals.load(given[1]), limits.load(given[1]), given[3], given[4])

    return signature, made


@intrinsic
def first_of(_, bits):  # type: ignore[no-untyped-def]
    """The lowest bit that is set, of a number that is not 0."""

    def made(_: Any, builder: Any, __: Any, given: Any) -> Any:
        return builder.cttz(given[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), made
