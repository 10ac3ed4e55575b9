"""The grid that a quantized file rounds values to, and ONNX's quantization of constants in numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from model.arrays import Floats

__all__ = ["ROUNDINGS", "Quantizer", "computed", "limits_of", "limits_of_bits", "type_limits"]

ROUNDINGS = {"ROUND": "even", "HALF_EVEN": "even", "FLOOR": "floor"}
"""How a quantizer of activations may round, by the names that QONNX has for it."""

_OF_CONSTANTS = {"ROUND_TO_ZERO": np.trunc, "DOWN": np.trunc, "CEIL": np.ceil}
"""How one of constants may round besides."""

_MOST_BITS = 32

_Number = TypeVar("_Number", np.float32, np.int64)


@dataclass(frozen=True, kw_only=True)
class Quantizer:
    """Values become ``scale * clip(round(value / scale), low, high)``.

    Parameters
    ----------
    scale : float
        The step of the grid.
    low, high : int
        The limits, zero point taken off.
    rounding : str
        ``"even"``: to the nearest, halves to the even one; ``"floor"``: down.
    """

    scale: float
    low: int
    high: int
    rounding: str = "even"

    def levels(self, values: npt.NDArray[np.floating]) -> Floats:
        """Which step of the grid values are rounded to, divided in float32 as runtimes do."""
        with np.errstate(over="ignore"):
            steps = (values.astype(np.float32) / np.float32(self.scale)).astype(np.float64)
        return np.clip(_ROUND[self.rounding](steps), self.low, self.high)

    def within(self, low: float, high: float) -> Quantizer:
        """The same with narrower limits."""
        return Quantizer(
            scale=self.scale, low=int(max(self.low, low)), high=int(min(self.high, high)), rounding=self.rounding
        )


_ROUND = {"even": np.rint, "floor": np.floor}


def type_limits(name: str) -> tuple[int, int] | None:
    """The limits of a type of integers by its name, as ``uint8``; None of any other type."""
    found = re.fullmatch(r"(u?)int(\d+)", name)
    return limits_of_bits(int(found[2]), signed=not found[1]) if found else None


def limits_of(array: npt.NDArray[np.generic]) -> tuple[int, int] | None:
    """The limits of the type of an array; None where it is not of integers."""
    return type_limits(array.dtype.name)


def limits_of_bits(bits: int, *, signed: bool, narrow: bool = False) -> tuple[int, int]:
    """The limits of integers of so many bits; ``narrow`` leaves out the one that makes them uneven."""
    if signed:
        return -(1 << bits - 1) + narrow, (1 << bits - 1) - 1
    return 0, (1 << bits) - 1 - narrow


def computed(
    node: onnx.NodeProto, inputs: Sequence[npt.NDArray[np.generic] | None]
) -> npt.NDArray[np.generic] | None:
    """What a quantizer or dequantizer gives of constants, dequantized in float64 so that nothing is rounded; None of others.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    inputs : sequence of numpy.ndarray or None
        Its inputs; None where one is left out.
    """
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    present = [array for array in inputs if array is not None]
    if node.op_type in ("Quant", "IntQuant"):
        return _quant(attributes, present) if len(present) == 4 else None
    if node.op_type == "BipolarQuant" and len(present) == 2:
        return np.where(present[0].astype(np.float64) >= 0, 1.0, -1.0) * present[1].astype(np.float64)
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(present) < 2:
        return None
    values, scale = present[:2]
    step = _spread(scale.astype(np.float32), values, attributes)
    zero = _spread((present[2] if len(present) > 2 else np.zeros(1)).astype(np.int64), values, attributes)
    if node.op_type == "DequantizeLinear":
        if limits_of(values) is None:
            return None
        return (values.astype(np.int64) - zero) * step.astype(np.float64)
    name = present[2].dtype.name if len(present) > 2 else _output_type(attributes)
    limits = type_limits(name)
    if limits is None:
        return None
    steps = np.rint(values.astype(np.float32) / step).astype(np.float64) + zero
    # Sub-byte types are kept in whole bytes: their numbers are what counts.
    return np.clip(steps, *limits).astype(name if hasattr(np, name) else "int8" if limits[0] else "uint8")


def _output_type(attributes: dict[str, object]) -> str:
    kind = attributes.get("output_dtype", 0) or onnx.TensorProto.UINT8
    return onnx.TensorProto.DataType.Name(int(str(kind))).lower()


def _spread(
    parameter: npt.NDArray[_Number], values: npt.NDArray[np.generic], attributes: dict[str, object]
) -> npt.NDArray[_Number]:
    """One number for all, one for each index of an axis, or one for each block along it, so that it meets the values."""
    if parameter.size == 1 and parameter.ndim <= 1:
        return parameter.reshape(())
    axis = int(str(attributes.get("axis", 1)))
    block = int(str(attributes.get("block_size", 0)))
    if block:
        found = np.repeat(parameter, block, axis=axis)
        return found[tuple(slice(size) for size in values.shape)]
    along = [1] * values.ndim
    along[axis] = -1
    return parameter.reshape(along)


def _quant(attributes: dict[str, object], inputs: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic] | None:
    """QONNX's quantizer of a constant."""
    values, scale, zero = (array.astype(np.float64) for array in inputs[:3])
    mode = attributes.get("rounding_mode", b"ROUND")
    name = (mode.decode() if isinstance(mode, bytes) else str(mode)).upper()
    whole = _OF_CONSTANTS.get(name) or _ROUND.get(ROUNDINGS.get(name, ""))
    bits = float(inputs[3].reshape(-1)[0]) if inputs[3].size == 1 else 0.0
    if whole is None or not 1 <= bits <= _MOST_BITS or bits != int(bits) or not scale.all():
        return None
    limits = limits_of_bits(int(bits), signed=bool(attributes.get("signed", 1)), narrow=bool(attributes.get("narrow", 0)))
    steps = (values.astype(np.float32) / scale.astype(np.float32)).astype(np.float64) + zero
    found: Floats = (whole(np.clip(steps, *limits)) - zero) * scale
    return found
