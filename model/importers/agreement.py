"""The layers that were read against the file itself, both run by ONNX Runtime: no wrong answer in silence.

Every import ends here. The layers are written as a plain ONNX model of their own, with explicit padding and linear weights by
address, so that what was folded, permuted or understood wrongly shows as a difference on random frames.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.arrays import Floats
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork, FloatProjection, is_float32, run_model
from model.importers.limits import MOST_VALUES
from model.network import INPUT, Shape

__all__ = ["check_agreement"]

_FRAMES = 8
"""Random frames to compare on, where the network is small."""

_LEAST_FRAMES = 2

_MACS = 4_000_000_000
"""MACs that the comparison may cost; that many take seconds."""

_TOLERANCE = 1e-3
"""Differences, as a part of the greatest output, that are rounding: float32 sums in another order, folded weights."""

_ROUNDING = 1e-4

_MOST_HALF_WAY = 0.3
"""Part of a layer's sums that may be rounded to another level: of averages of four every fourth is half way between two."""


def check_agreement(network: FloatNetwork) -> None:
    """Compare the layers with the model that they were read from, on random frames.

    Raises
    ------
    ConversionError
        One line: ONNX Runtime cannot run the model, gives another number of outputs, other outputs, or no finite numbers.
    """
    for layer in network.layers:
        for values in (layer.bias, *(taken.weights for taken in layer.inputs)):
            if values is not None and not is_float32(values):
                raise ConversionError(
                    f"{network.path}: layer {layer.name!r}: weights and biases must be finite numbers of float32 with "
                    "what is folded into them"
                )
    frames = _frames(network)
    expected = network.run(frames)[0].reshape(len(frames), -1).astype(np.float64)
    own, images = _own_model(network.layers, {INPUT: network.input_shape}), {f"from_{INPUT}": frames.transpose(0, 3, 1, 2)}
    found = run_model(network.path, own, images, ["answer"], optimized=not network.quantized)[0].astype(np.float64)
    if expected.shape != found.shape:
        raise ConversionError(
            f"{network.path}: layers must give as many outputs as ONNX Runtime, {expected.shape[1]:,}, not {found.shape[1]:,}; "
            "report this file"
        )
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        where = next((f"layer {layer.name!r}: " for layer in network.layers if not _is_finite(network, layer, frames)), "")
        raise ConversionError(f"{network.path}: {where}outputs must be finite numbers on frames within 0..1, not NaN or infinity")
    if network.quantized:
        _check_levels(network, frames, expected)
        return
    # Outputs that are nothing but rounding themselves, as a difference of equal branches, have no scale of their own.
    scale = max(np.abs(expected).max(), np.abs(found).max(), _ROUNDING * _greatest_sum(network))
    difference = np.abs(expected - found).max()
    if difference > _TOLERANCE * scale:
        raise ConversionError(
            f"{network.path}: layers must give what ONNX Runtime gives on random frames, not outputs of up to {scale:.4g} that "
            f"differ by {difference:.4g}; report this file"
        )


def _greatest_sum(network: FloatNetwork) -> float:
    """What an output can be of inputs of 1, each added, of the last layer that has weights."""
    *_, last = (layer for layer in network.layers if layer.weights is not None)
    weights = [taken.weights for taken in last.inputs if taken.weights is not None]
    return float(np.max(sum(np.abs(own).reshape(len(own), -1).sum(axis=1) for own in weights)))


def _check_levels(network: FloatNetwork, frames: npt.NDArray[np.float32], expected: Floats) -> None:
    """Compare each layer with levels for the levels that the file has before it.

    Rounding of numbers takes a sum that is half way between two levels to the one or to the other, and all that comes after
    would differ by more.
    """
    named = [layer.tensor for layer in network.layers[:-1] if layer.quantizer is not None]
    tensors = iter(network.run(frames, named) if named else [])
    given = {INPUT: frames.transpose(0, 3, 1, 2)}
    for layer, _, output in network.walk():
        is_last = layer is network.layers[-1]
        if layer.quantizer is None and not is_last:
            continue
        part, sources = _with_pools(network, layer)
        own = _own_model(part, {name: network.shape_of(name) for name in sources})
        fed = {f"from_{name}": given[name] for name in sources}
        found = run_model(network.path, own, fed, ["answer"], optimized=False)[0].astype(np.float64)
        step = layer.quantizer.scale if layer.quantizer is not None else 0.0
        theirs = expected
        if not is_last:
            values = (layer.levels(next(tensors), output) * step).astype(np.float32)
            given[layer.name] = values.transpose(0, 3, 1, 2)
            theirs = values.reshape(len(frames), -1).astype(np.float64)
        differences = np.abs(found - theirs)
        most = 1.5 * step or _TOLERANCE * max(np.abs(theirs).max(), np.abs(found).max(), _ROUNDING)
        if differences.max() > most or (step and (differences > step / 2).mean() > _MOST_HALF_WAY):
            raise ConversionError(
                f"{network.path}: layer {layer.name!r}: must give what ONNX Runtime gives on random frames, not up to "
                f"{differences.max():.4g} off; report this file"
            )


def _with_pools(network: FloatNetwork, layer: FloatLayer) -> tuple[list[FloatLayer], list[str]]:
    """The layer, last, with the pools in front of it, and what these and the layer take from elsewhere."""
    pools = {one.name: one for one in network.layers if one.kind == "maxpool"}
    wanted, left = {layer.name}, [layer]
    while left:
        more = {taken.source for taken in left.pop().inputs if taken.source in pools} - wanted
        wanted |= more
        left += [pools[name] for name in more]
    part = [one for one in network.layers if one.name in wanted]
    return part, sorted({taken.source for one in part for taken in one.inputs} - wanted)


def _is_finite(network: FloatNetwork, layer: FloatLayer, frames: npt.NDArray[np.float32]) -> bool:
    return bool(np.isfinite(network.run(frames, [layer.tensor])[0]).all())


def _frames(network: FloatNetwork) -> npt.NDArray[np.float32]:
    """Random frames, every other one with pixels of 0 and 1 only."""
    largest = max([network.input_shape.size, *(output.size for _, _, output in network.walk())])
    number = min(_FRAMES, _MACS // max(network.macs, 1), MOST_VALUES // largest)
    frames = np.random.default_rng(0).random((max(number, _LEAST_FRAMES), *network.input_shape), np.float32)
    frames[1::2] = np.rint(frames[1::2])
    return (np.rint(frames * 255) / 255).astype(np.float32) if network.pixels else frames


def _geometry(taken: FloatProjection) -> dict[str, list[int]]:
    return {"kernel_shape": list(taken.window), "strides": list(taken.stride), "pads": list(taken.padding)}


def _own_model(layers: Sequence[FloatLayer], sources: Mapping[str, Shape]) -> onnx.ModelProto:
    """The layers as a model whose inputs are these sources, its output ``answer`` by address; a layer's inputs are summed."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def add(operator: str, inputs: list[str], **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [f"t{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def constant(values: npt.NDArray[np.floating]) -> str:
        with np.errstate(over="ignore"):  # what is too large is found in what the model gives
            constants.append(numpy_helper.from_array(values.astype(np.float32), f"k{len(constants)}"))
        return constants[-1].name

    def by_address(value: str) -> str:
        return add("Flatten", [add("Transpose", [value], perm=[0, 2, 3, 1])], axis=1)

    def driven(taken: FloatProjection, bias: Floats) -> str:
        value, weights = values[taken.source], taken.weights
        assert weights is not None
        if taken.averaged != (1, 1):
            value = add("AveragePool", [value], kernel_shape=list(taken.averaged), strides=list(taken.averaged))
            weights = weights * (taken.averaged[0] * taken.averaged[1])
        if taken.kind == "linear":
            value = add("Gemm", [by_address(value), constant(weights), constant(bias)], transB=1)
            constants.append(numpy_helper.from_array(np.array([2, 3]), f"axes{len(constants)}"))
            return add("Unsqueeze", [value, constants[-1].name])
        more = [constant(bias)] if bias.ndim == 1 else []
        if taken.kind == "transposed":
            # Inputs come first in ONNX.
            apart = weights.reshape(taken.groups, -1, *weights.shape[1:]).swapaxes(1, 2)
            inputs = [value, constant(apart.reshape(-1, *apart.shape[2:])), *more]
            value = add("ConvTranspose", inputs, group=taken.groups, output_padding=list(taken.more), **_geometry(taken))
        else:
            value = add("Conv", [value, constant(weights), *more], group=taken.groups, **_geometry(taken))
        return add("Add", [value, constant(bias.transpose(2, 0, 1))]) if bias.ndim == 3 else value

    values = {name: f"from_{name}" for name in sources}
    for layer in layers:
        if layer.weights is None or layer.bias is None:
            values[layer.name] = add("MaxPool", [values[layer.source]], **_geometry(layer))
            continue
        value = driven(layer, layer.bias)
        for taken in layer.joined:
            value = add("Add", [value, driven(taken, np.zeros(layer.bias.shape[-1:]))])
        if layer.relu:
            value = add("Relu", [value])
        if layer.end is not None:
            value = add("Min", [value, constant(np.array(layer.end))])
        if layer.quantizer is not None:
            step = constant(np.array(layer.quantizer.scale))
            value = add("Floor" if layer.quantizer.rounding == "floor" else "Round", [add("Div", [value, step])])
            value = add("Max", [value, constant(np.array(layer.quantizer.low))])
            value = add("Mul", [add("Min", [value, constant(np.array(layer.quantizer.high))]), step])
        values[layer.name] = value
    nodes.append(helper.make_node("Identity", [by_address(values[layers[-1].name])], ["answer"]))
    graph = helper.make_graph(
        nodes,
        "layers",
        [
            helper.make_tensor_value_info(values[name], TensorProto.FLOAT, ["frames", channels, height, width])
            for name, (height, width, channels) in sources.items()
        ],
        [helper.make_empty_tensor_value_info("answer")],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
