"""Nodes of quantized files: what rounds activations to levels, and operators on levels.

Data is followed as the numbers that levels stand for. A quantizer belongs to the neuron layer before it, as a ReLU does: its
levels are that layer's counts. Where it has none of its own, after an average or at the input, it becomes a layer that takes
each value by itself. Operators on integers (``QLinearConv`` and its like) are read as the float operator between a dequantizer
and a quantizer, which is what ONNX says that they mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from model.arrays import Floats
from model.importers.deferred import affine, average_pool
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork
from model.importers.folding import Average
from model.importers.graph import OnnxGraph, text
from model.importers.inputs import as_layer, by_itself, channel_major, fold_back
from model.importers.layers import clip, convolution, linear
from model.importers.operators import SUPPORTED
from model.importers.parts import of_each
from model.importers.quantizer import ROUNDINGS, Quantizer, limits_of, limits_of_bits, type_limits
from model.importers.structure import printable, type_name
from model.importers.tensors import Data, Levels, nothing

__all__ = [
    *("OF_LEVELS", "OF_PIXELS", "QUANTIZED", "ROUNDING", "as_numbers", "check_levels", "dequantized", "expanded"),
    *("requantized", "taken"),
]

_MOST_LEVEL_BITS = 16

_ON_GRID = 1e-6
"""Part of a step that scales may be off by."""

_FULL = 255
"""The greatest pixel."""

_RANGE = "quantize activations to at most 16 bits, with one scale and one zero point for the whole tensor"


def quantize_linear(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """Activations rounded to levels, which are integers from here on."""
    attributes = graph.attributes(node, ("axis", "saturate", "block_size", "output_dtype", "precision"))
    if data.integers:
        raise graph.error(node, "input must be of a float type")
    found, limits = _levels(graph, node, 1, 2, int(attributes.get("output_dtype", 0)))
    return _rounded(graph, node, data, found, limits, node.input[1:])


def dequantize_linear(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """The numbers that levels stand for."""
    graph.attributes(node, ("axis", "block_size", "output_dtype"))
    found = taken(graph, node, data, 1, 2)
    graph.report(node, "folded", SUPPORTED[node.op_type] if data.levels is not None else "scale and offset of the input")
    return replace(found, levels=None, integers=False)


def quant(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """QONNX's quantizers: they round to levels and give the numbers that these stand for."""
    if node.op_type == "BipolarQuant":
        raise graph.error(
            node,
            "must be of constant weights: activations of -1 and 1 have no level 0",
            "round activations to levels that 0 is one of",
        )
    wanted = 6 if node.op_type == "Trunc" else 4
    if len(node.input) != wanted:
        raise graph.error(node, f"inputs must be {wanted}, not {len(node.input)}")
    if graph.opset < 11:
        raise graph.error(node, f"must be in a file of opset 11 or newer, not {graph.opset}")
    if node.op_type == "Trunc":
        _check_truncated(graph, node, data)
    return _attached(graph, node, data, _of_quant(graph, node), lambda node: node.output[0])


def _of_quant(graph: OnnxGraph, node: onnx.NodeProto) -> Quantizer:
    """What a quantizer of QONNX does."""
    attributes = graph.attributes(node, ("signed", "narrow", "rounding_mode"))
    scale, zero, bits = (graph.number(node, n) for n in ((4, 2, 5) if node.op_type == "Trunc" else (1, 2, 3)))
    if scale is None or not np.isfinite(scale) or scale <= 0:
        raise graph.error(node, f"scale must be above 0, not {scale}")
    if bits is None or bits != int(bits) or not 1 <= bits <= _MOST_LEVEL_BITS:
        raise graph.error(node, f"bit width must be a whole number within 1..{_MOST_LEVEL_BITS}, not {bits}")
    # It rounds with the zero point, so that an odd one would turn the other way what is half way between two levels.
    if zero is None or zero % 2:
        raise graph.error(node, f"zero point must be an even number, not {zero}")
    mode = text(attributes.get("rounding_mode", "ROUND")).upper()
    if mode not in ROUNDINGS:
        raise graph.error(node, f"rounding_mode must be one of {', '.join(ROUNDINGS)}, not {printable(mode)}")
    signed = bool(attributes.get("signed", 1))
    low, high = limits_of_bits(int(bits), signed=signed, narrow=bool(attributes.get("narrow", 0)))
    if low == high:
        raise graph.error(node, f"must have more than one level, not only {low}")
    offset = int(zero)
    return Quantizer(scale=scale, low=low - offset, high=high - offset, rounding=ROUNDINGS[mode])


def _check_truncated(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> None:
    """Refuse a Trunc that does more than to round sums or averages of levels to fewer bits."""
    scale, zero, scale_out = (graph.number(node, n) for n in (1, 2, 4))
    quantizer = data.layers[data.last].quantizer if data.last is not None else None
    area = 1 if data.average is None else _area(data.average)
    exact = bool(scale and scale_out and quantizer and area and not zero and data.affine is None)
    if exact:
        assert scale and scale_out and quantizer and area
        steps = quantizer.scale / area / scale, np.log2(scale_out / scale)
        exact = all(abs(n - round(n)) < _ON_GRID and n > -_ON_GRID for n in steps)
    if not exact:
        raise graph.error(
            node,
            "must be of levels, or of their averages over windows side by side, in whole steps of its scale, with zero point 0 "
            "and an output scale that is a power of two times as large",
            "round with Quant",
        )


def _area(average: tuple[Average, Average]) -> int | None:
    """Positions in each window of an average over windows that lie side by side; None of any other."""
    rows, columns = (one.block for one in average)
    return rows * columns if rows and columns else None


def clip_levels(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A Clip of levels, between a quantizer and its dequantizer, narrows them; any other is an activation."""
    if data.levels is None:
        return clip(graph, node, data)
    if data.parts:
        levels = data.levels

        def clip_part(graph: OnnxGraph, node: onnx.NodeProto, part: Data) -> Data:
            return replace(clip_levels(graph, node, replace(part, levels=levels)), levels=None)

        return of_each(graph, node, data, clip_part)
    low, high = (_integer(graph, node, n) for n in (1, 2))
    assert data.last is not None
    layer = data.layers[data.last]
    assert layer.quantizer is not None
    zero = data.levels.zero
    quantizer = layer.quantizer.within(*(default if n is None else n - zero for n, default in ((low, -np.inf), (high, np.inf))))
    _check_range(graph, node, quantizer)
    graph.report(node, "folded", f"levels of layer {layer.name!r}: {quantizer.low + zero} to {quantizer.high + zero}")
    return replace(data, layers=_with(data, replace(layer, quantizer=quantizer)))


def cast_levels(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A Cast of levels to a type that holds them all; any other is one between float types."""
    if data.levels is None:
        return nothing(graph, node, data)
    quantizers = [part.layers[part.last].quantizer for part in data.parts or (data,) if part.last is not None]
    ends = [end + data.levels.zero for found in quantizers if found is not None for end in (found.low, found.high)]
    low, high = min(ends), max(ends)
    name = type_name(int(graph.attributes(node, ("to", "saturate")).get("to", 0)))
    limits = type_limits(name)
    if limits is None or not limits[0] <= low <= high <= limits[1]:
        raise graph.error(node, f"to must be a type of integers that holds levels {low} to {high}, not {name}")
    graph.report(node, "folded", "nothing: the same levels")
    return data


def _integer(graph: OnnxGraph, node: onnx.NodeProto, index: int) -> int | None:
    """Input ``index`` of a Clip of levels; None where it is left out."""
    if len(node.input) <= index or not node.input[index]:
        return None
    found = graph.constants.get(node.input[index])
    if found is None or limits_of(found) is None or found.size != 1:
        raise graph.error(node, f"input {printable(node.input[index])!r} must be one constant integer")
    return int(found.astype(np.int64).reshape(-1)[0])


def _levels(
    graph: OnnxGraph, node: onnx.NodeProto, scale: int, zero: int, kind: int = 0
) -> tuple[Levels, tuple[int, int]]:
    """Scale and zero point of activations, given as inputs, and the limits of their type."""
    found = graph.constant(node, scale)
    if found.size != 1:
        raise graph.error(node, f"scale of activations must be one number, not {found.size}", _RANGE)
    value = float(found.reshape(-1)[0])
    if value <= 0:
        raise graph.error(node, f"scale must be above 0, not {value:g}")
    name, point = (type_name(kind) if kind else "uint8"), 0
    if len(node.input) > zero and node.input[zero]:
        array = graph.constants.get(node.input[zero])
        if array is None or array.size != 1:
            raise graph.error(node, f"zero point {printable(node.input[zero])!r} must be one constant integer", _RANGE)
        name = array.dtype.name
        point = int(array.astype(np.int64).reshape(-1)[0]) if limits_of(array) else 0
    limits = type_limits(name)
    if limits is None or limits[1] - limits[0] >= 1 << _MOST_LEVEL_BITS:
        raise graph.error(node, f"levels must be integers of at most {_MOST_LEVEL_BITS} bits, not {name}", _RANGE)
    return Levels(value, point, name), limits


def taken(graph: OnnxGraph, node: onnx.NodeProto, data: Data, scale: int, zero: int) -> Data:
    """The input of a node that takes levels, with scale and zero point at its inputs; pixels of an input of integers are levels.

    Levels that are taken for other numbers than those that they were made of are refused.
    """
    if data.levels is None and not (data.integers and data.last is None):
        raise graph.error(node, "input must be levels that a quantizer gives", "quantize the input in the file")
    found = graph.constant(node, scale)
    point = graph.constants.get(node.input[zero]) if len(node.input) > zero and node.input[zero] else np.zeros(1, np.int64)
    if found.size != 1 or point is None or point.size != 1:
        raise graph.error(node, "scale and zero point of activations must be one constant number each", _RANGE)
    if data.levels is None:
        if data.affine is None or (data.affine[0] != _FULL).any() or data.affine[1].any():
            raise graph.error(node, "takes pixels as they are", "give no --mean, --std or --scale")
        graph.pixels = True
        levels, _ = _levels(graph, node, scale, zero)
        factor, offset = np.full((1, 1, 1), levels.scale), np.full((1, 1, 1), -levels.scale * levels.zero)
        return affine(graph, node, data, factor, offset)
    given = Levels(float(found.reshape(-1)[0]), int(point.astype(np.int64).reshape(-1)[0]))
    if given != data.levels:
        raise graph.error(
            node,
            f"scale and zero point must be those of the quantizer before it, {data.levels.scale:g} and {data.levels.zero}, not "
            f"{given.scale:g} and {given.zero}",
        )
    return data


def _rounded(
    graph: OnnxGraph, node: onnx.NodeProto, data: Data, found: Levels, limits: tuple[int, int], step: Sequence[str]
) -> Data:
    """Data rounded to these levels; ``step`` are their scale and zero point as inputs of a dequantizer."""

    def numbers(node: onnx.NodeProto) -> str:
        name = f"{node.output[0]}_dequantized"
        graph.extra.node.append(helper.make_node("DequantizeLinear", [node.output[0], *step], [name]))
        return name

    quantizer = Quantizer(scale=found.scale, low=limits[0] - found.zero, high=limits[1] - found.zero)
    return replace(_attached(graph, node, data, quantizer, numbers), levels=found, integers=True)


def _attached(
    graph: OnnxGraph, node: onnx.NodeProto, data: Data, quantizer: Quantizer, numbers: Callable[[onnx.NodeProto], str]
) -> Data:
    """The quantizer as that of the layer before it, of a layer of its own, or of each part of what is concatenated.

    ``numbers`` names the tensor with the numbers that a node's output stands for.
    """
    if data.join == "sum":
        data = as_layer(graph, data)
    if data.parts:
        found = of_each(graph, node, data, lambda graph, node, part: _attached(graph, node, part, quantizer, numbers))
        return replace(found, value=node.output[0])
    found = _with_levels(graph, node, data, quantizer)
    if found.layers[-1].tensor == "":
        layer = replace(found.layers[-1], tensor=channel_major(graph, replace(found, value=numbers(node))))
        found = replace(found, layers=(*found.layers[:-1], layer))
    return found


def _with_levels(graph: OnnxGraph, node: onnx.NodeProto, data: Data, quantizer: Quantizer) -> Data:
    """The quantizer as that of the layer before it, or of a layer of its own, whose tensor is still to be named."""
    if data.average is not None or data.affine is not None:
        data = fold_back(graph, data) or data
    waits = data.average is not None or data.affine is not None
    layer = data.layers[data.last] if data.last is not None and not waits else None
    before = layer.quantizer if layer is not None else None
    if data.end is not None and before is not None and before.scale == quantizer.scale:
        quantizer = quantizer.within(-np.inf, quantizer.levels(np.array([data.end]))[0])
        data = replace(data, end=None, ended_by=None)
    if layer is None or (before is not None and (before.scale != quantizer.scale or quantizer.rounding == "floor")):
        return _own(graph, node, data, quantizer)
    if before is not None:
        quantizer = before.within(quantizer.low, quantizer.high)
    _check_range(graph, node, quantizer)
    graph.report(node, "folded", f"levels of layer {layer.name!r}: {_words(quantizer)}")
    return replace(data, layers=_with(data, replace(layer, quantizer=quantizer)))


def _own(graph: OnnxGraph, node: onnx.NodeProto, data: Data, quantizer: Quantizer) -> Data:
    """A layer that rounds each value by itself, with what waits folded into it."""
    found = by_itself(graph, node, replace(data, end=None, ended_by=None))
    layer = replace(found.layers[-1], tensor="", quantizer=quantizer, relu=data.end is not None, end=data.end)
    if data.ended_by is not None:
        graph.report(data.ended_by, "folded", f"end of the activation of layer {layer.name!r} after it")
    what = "levels of the input" if not data.layers else f"layer {layer.name!r} that takes each value by itself"
    graph.report(node, "supported", f"{what}: {_words(quantizer)}")
    return replace(found, layers=(*found.layers[:-1], layer))


def _with(data: Data, layer: FloatLayer) -> tuple[FloatLayer, ...]:
    """The layers with another one in place of the last that has weights."""
    assert data.last is not None
    return (*data.layers[: data.last], layer, *data.layers[data.last + 1 :])


def _words(quantizer: Quantizer) -> str:
    return f"{quantizer.low} to {quantizer.high} times {quantizer.scale:.6g}"


def _check_range(graph: OnnxGraph, node: onnx.NodeProto, quantizer: Quantizer) -> None:
    if quantizer.low >= quantizer.high:
        raise graph.error(node, f"must leave more than one level, not {quantizer.low} to {quantizer.high}")


def dequantized(graph: OnnxGraph, node: onnx.NodeProto, first: int, axis: int = 0) -> Floats:
    """Constant integers, scale and zero point at inputs ``first`` and on, as the numbers that they stand for."""
    found = []
    for index in range(first, first + 3):
        name = node.input[index]
        if name not in graph.constants:
            raise graph.error(node, f"input {printable(name)!r} must be a constant")
        found.append(graph.constants[name])
    values, scale, zero = found
    if limits_of(values) is None or limits_of(zero) is None or scale.dtype.kind != "f":
        raise graph.error(node, f"input {printable(node.input[first])!r} must be of integers with a scale and a zero point")
    along = [1] * values.ndim
    along[axis] = -1
    try:
        scales, zeros = (n.reshape(() if n.size == 1 else along) for n in (scale.astype(np.float64), zero.astype(np.int64)))
        floats: Floats = (values.astype(np.int64) - zeros) * scales
    except ValueError:
        raise graph.error(node, "scale and zero point of weights must be one number, or one for each output") from None
    return floats


def _scales(graph: OnnxGraph, node: onnx.NodeProto, first: int, second: int) -> npt.NDArray[np.float64]:
    """What a bias counts in: the scale of the input times that of the weights."""
    of_input, of_weights = (graph.constant(node, n).astype(np.float64).reshape(-1) for n in (first, second))
    return of_input * of_weights


def _as_float(
    graph: OnnxGraph,
    node: onnx.NodeProto,
    data: Data,
    operator: str,
    constants: list[Floats],
    read: Callable[[OnnxGraph, onnx.NodeProto, Data], Data],
    leave: tuple[str, ...] = (),
) -> Data:
    """An operator on levels, read as the float operator on what they stand for."""
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.op_type, plain.domain = operator, ""
    del plain.input[1:]
    kept = [a for a in node.attribute if a.name not in leave]
    del plain.attribute[:]
    plain.attribute.extend(kept)
    for number, values in enumerate(constants):
        name = f"{node.output[0]}_{number}_dequantized"
        graph.constants[name] = values
        plain.input.append(name)
    plain.input[0] = data.value
    try:
        found = read(graph, plain, replace(data, levels=None, integers=False))
    except ConversionError as error:
        if error.node != node.output[0]:
            raise
        raise graph.error(node, error.reason, error.remedy) from None
    if node.output[0] in graph.reports:
        report = graph.reports[node.output[0]]
        graph.report(node, report.status, report.what)
    return found


def requantized(graph: OnnxGraph, node: onnx.NodeProto, found: Data, scale: int) -> Data:
    """The output of an operator on levels, rounded to the levels whose scale and zero point are its inputs ``scale`` and on."""
    levels, limits = _levels(graph, node, scale, scale + 1)
    if found.join == "sum":
        found = as_layer(graph, found)
    what = graph.reports[node.output[0]].what
    layers = found.layers
    is_new = bool(layers) and layers[-1].kind != "maxpool" and layers[-1].quantizer is None
    if is_new:
        # The tensor of the float operator is none of the file's.
        layers = (*layers[:-1], replace(layers[-1], tensor=""))
    rounded = _rounded(graph, node, replace(found, layers=layers), levels, limits, node.input[scale : scale + 2])
    if is_new:
        quantizer = rounded.layers[-1].quantizer
        assert quantizer is not None
        graph.report(node, "supported", f"{what}, levels {_words(quantizer)}")
    return rounded


def qlinear_conv(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A convolution of levels."""
    data = taken(graph, node, data, 1, 2)
    constants = [dequantized(graph, node, 3, 0)]
    if len(node.input) > 8 and node.input[8]:
        constants.append(_bias(graph, node, 8, _scales(graph, node, 1, 4)))
    return requantized(graph, node, _as_float(graph, node, data, "Conv", constants, convolution), 6)


def _bias(graph: OnnxGraph, node: onnx.NodeProto, index: int, scale: npt.NDArray[np.float64]) -> Floats:
    found = graph.constants.get(node.input[index])
    if found is None or limits_of(found) is None or scale.size not in (1, found.size):
        raise graph.error(node, f"input {printable(node.input[index])!r} must be constant integers, one for each output")
    return found.astype(np.float64) * scale


def qlinear_matmul(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A product of levels with constant weights."""
    if node.input[0] in graph.constants:
        raise graph.error(node, "the constant must be the second input")
    data = taken(graph, node, data, 1, 2)
    found = _as_float(graph, node, data, "MatMul", [dequantized(graph, node, 3, 1)], linear)
    return requantized(graph, node, found, 6)


def qgemm(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """A linear layer of levels; its output is of levels, or of numbers where it has no scale."""
    data = taken(graph, node, data, 1, 2)
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    constants = [dequantized(graph, node, 3, 0 if attributes.get("transB", 0) else 1)]
    if len(node.input) > 6 and node.input[6]:
        constants.append(_bias(graph, node, 6, _scales(graph, node, 1, 4) * float(attributes.get("alpha", 1.0))))
    found = _as_float(graph, node, data, "Gemm", constants, linear)
    return requantized(graph, node, found, 7) if len(node.input) > 7 and node.input[7] else found


def qlinear_average_pool(graph: OnnxGraph, node: onnx.NodeProto, data: Data) -> Data:
    """An average of levels, rounded to levels."""
    data = taken(graph, node, data, 1, 2)
    if any(a.name == "channels_last" and a.i for a in node.attribute):
        raise graph.error(node, "channels_last must be 0, not 1")
    operator = node.op_type.removeprefix("QLinear")
    found = _as_float(graph, node, data, operator, [], average_pool, leave=("channels_last",))
    return requantized(graph, node, found, 3)


def expanded(graph: OnnxGraph, node: onnx.NodeProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """QONNX's quantizer of activations in operators that a runtime has, and their constants."""
    quantizer = _of_quant(graph, node)
    whole = "Floor" if quantizer.rounding == "floor" else "Round"
    steps = [
        ("Div", quantizer.scale), (whole, None), ("Max", quantizer.low), ("Min", quantizer.high), ("Mul", quantizer.scale)
    ]
    nodes, constants, value = [], [], node.input[0]
    for number, (operator, constant) in enumerate(steps):
        inputs = [value]
        if constant is not None:
            inputs.append(f"{node.output[0]}_{number}_by")
            constants.append(numpy_helper.from_array(np.array(constant, np.float32), inputs[-1]))
        value = node.output[0] if number == len(steps) - 1 else f"{node.output[0]}_{number}"
        nodes.append(helper.make_node(operator, inputs, [value]))
    return nodes, constants


def check_levels(network: FloatNetwork) -> None:
    """Refuse a network of which only some activations are rounded.

    Raises
    ------
    ConversionError
        One line that names the layer that has no levels.
    """
    neurons = [layer for layer in network.layers if layer.kind != "maxpool"]
    for layer in neurons[:-1] if network.quantized else ():
        if layer.quantizer is None:
            raise ConversionError(
                f"{network.path}: layer {layer.name!r}: must have a quantizer after it, as others of the file have; quantize all "
                "activations, or none"
            )


def as_numbers(graph: OnnxGraph, levels: Levels) -> str:
    """A tensor beside those of the file with the numbers that its output of levels stands for."""
    scale, zero, found = (f"{graph.output}_{name}" for name in ("scale", "zero_point", "numbers"))
    kind = onnx.TensorProto.DataType.Value(levels.kind.upper())
    graph.extra.initializer.append(helper.make_tensor(scale, onnx.TensorProto.FLOAT, (), [levels.scale]))
    graph.extra.initializer.append(helper.make_tensor(zero, kind, (), [levels.zero]))
    graph.extra.node.append(helper.make_node("DequantizeLinear", [graph.output, scale, zero], [found]))
    return found


ROUNDING = ("Quant", "IntQuant", "Trunc")
"""QONNX's quantizers, which a runtime does not have."""

OF_PIXELS = (
    *("MaxPool", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearConcat"),
    *("QLinearAveragePool", "QLinearGlobalAveragePool"),
)
"""Operators that an input of integers may go into."""

OF_LEVELS = (
    *("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "MaxPool", "Clip", "Cast", "Concat"),
    *("DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "QLinearAveragePool", "QLinearGlobalAveragePool"),
    *("QLinearAdd", "QLinearConcat"),
)
"""Operators that levels may go through."""

QUANTIZED: dict[str, Callable[[OnnxGraph, onnx.NodeProto, Data], Data]] = {
    "Clip": clip_levels,
    "Cast": cast_levels,
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    **dict.fromkeys((*ROUNDING, "BipolarQuant"), quant),
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QGemm": qgemm,
    **dict.fromkeys(("QLinearAveragePool", "QLinearGlobalAveragePool"), qlinear_average_pool),
}
"""What reads each operator of quantized files."""
