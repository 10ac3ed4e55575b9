"""What the tests of the import share: small graphs of any opset, and float layers run in numpy by address."""

import numpy as np
from onnx.reference import ReferenceEvaluator

from model.importers.onnx import import_model
from sim.generators.onnx_graphs import TWO, Graph

__all__ = [
    "OPSETS", "TWO", "Graph", "channels_last", "head", "kinds", "linear_end", "pooled", "relu_conv", "run_layers", "same",
]  # fmt: skip

OPSETS = (7, 11, 13, 17, 21)


def run_layers(network, images):
    """Outputs of all layers, ``(frames, height, width, channels)``, before their ReLU and after it."""
    values, found = {"input": np.asarray(images, np.float64)}, []
    for layer in network.layers:
        before = sum(_input(taken, values[taken.source]) for taken in layer.inputs)
        if layer.bias is not None:
            before = before + layer.bias
        values[layer.name] = layer.activated(before)
        found.append((before, values[layer.name]))
    return found


def _input(layer, values):
    """What one input of a layer adds to its sums; of a pool its maxima."""
    frames = len(values)
    if layer.averaged != (1, 1):
        height, width = layer.averaged
        rows, columns = values.shape[1] // height, values.shape[2] // width
        whole = values[:, : rows * height, : columns * width]
        values = whole.reshape(frames, rows, height, columns, width, -1).sum(axis=(2, 4))
    if layer.kind == "linear":
        return (values.reshape(frames, -1) @ layer.weights.T).reshape(frames, 1, 1, -1)
    if layer.kind == "transposed":
        return _transposed(layer, values)
    top, left, bottom, right = layer.padding
    fill = -np.inf if layer.kind == "maxpool" else 0.0
    padded = np.pad(values, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, layer.window, axis=(1, 2))
    windows = windows[:, :: layer.stride[0], :: layer.stride[1]]
    if layer.kind == "maxpool":
        return windows.max(axis=(4, 5))
    outputs, taken = layer.weights.shape[:2]
    each = outputs // layer.groups
    found = [
        np.einsum(
            "nyxcij,ocij->nyxo",
            windows[:, :, :, group * taken : (group + 1) * taken],
            layer.weights[group * each : (group + 1) * each],
        )
        for group in range(layer.groups)
    ]
    return np.concatenate(found, axis=3)


def _transposed(layer, values):
    """Each value in a window of outputs, as often further on as it is itself, and the padding cut off."""
    frames, rows, columns, _ = values.shape
    height, width = ((size - 1) * step + kernel + more for size, step, kernel, more in
                     zip((rows, columns), layer.stride, layer.window, layer.more, strict=True))  # fmt: skip
    found = np.zeros((frames, height, width, len(layer.weights)))
    parts = zip(np.split(values, layer.groups, axis=3), np.split(layer.weights, layer.groups), strict=True)
    each = len(layer.weights) // layer.groups
    for group, (part, weights) in enumerate(parts):
        for y, x in np.ndindex(rows, columns):
            down, right = y * layer.stride[0], x * layer.stride[1]
            reached = np.s_[:, down : down + layer.window[0], right : right + layer.window[1], group * each : (group + 1) * each]
            found[reached] += np.einsum("nc,ocij->nijo", part[:, y, x], weights)
    top, left, bottom, right = layer.padding
    return found[:, top : height - bottom, left : width - right]


def _is_beyond_the_reference(node, opset):
    """Whether ONNX's reference does not run a node as ONNX means it, so that only ONNX Runtime is left."""
    if node.op_type == "BatchNormalization":
        # It takes these for training, which they are only with five outputs.
        return opset < 14
    grouped = any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
    return (node.op_type == "ConvTranspose" and grouped) or (node.op_type in ("Upsample", "Resize") and opset < 11)


def same(graph):
    """Import the graph; its layers in numpy are what ONNX's reference gives, and every layer's tensor is its output."""
    model = graph.model()
    network = import_model(model, "net.onnx")
    images = np.random.default_rng(1).random((3, *network.input_shape))
    layers = run_layers(network, images)
    fed = images if network.channels_last else images.transpose(0, 3, 1, 2)
    dims = [n for n in graph.shape[1:] if n]
    fed = fed.reshape(3, *dims).astype(np.float32)
    if any(_is_beyond_the_reference(node, graph.opset) for node in graph.nodes):
        expected = network.run(images)[0]
    else:
        frames = [fed[n : n + 1] for n in range(3)] if graph.shape[0] == 1 else [fed]
        expected = np.concatenate([ReferenceEvaluator(model).run(None, {"image": chunk})[0] for chunk in frames])
    found = layers[-1][1].reshape(3, -1)
    scale = max(1.0, np.abs(expected).max())
    assert np.allclose(found, expected.reshape(3, -1), rtol=1e-5, atol=1e-5 * scale)
    neurons = [(layer, both) for layer, both in zip(network.layers, layers, strict=True) if layer.kind != "maxpool"]
    tensors = network.run(images, [layer.tensor for layer, _ in neurons])
    for (layer, both), tensor in zip(neurons, tensors, strict=True):
        height, width, channels = both[0].shape[1:]
        values = tensor.reshape(3, channels, height, width).transpose(0, 2, 3, 1)
        # Where the activation ends behind a pool, it is the one without an end.
        assert any(np.allclose(values, one, rtol=1e-4, atol=1e-4) for one in both) or (
            layer.end is not None and np.allclose(layer.activated(values), both[1], rtol=1e-4, atol=1e-4)
        ), layer.name
    return network


def channels_last(graph):
    """An end in addresses' order, so that a convolution at the end stays one."""
    return graph.add("Transpose", perm=[0, 2, 3, 1])


def kinds(network):
    """The kinds of its layers."""
    return [layer.kind for layer in network.layers]


def relu_conv(g, **attributes):
    """Three channels of 6x6, from the usual input."""
    return g.conv(3, 2, 3, **attributes).add("Relu")


def head(g, size):
    """Four outputs of a flattened tensor of that size."""
    return g.add("Flatten").linear(size, 4)


def pooled(g, **attributes):
    """An average of `relu_conv`."""
    return relu_conv(g).add("AveragePool", **attributes)


def linear_end(g, size):
    """Two outputs of a flattened tensor of that size."""
    return g.add("Flatten").linear(size, 2)
