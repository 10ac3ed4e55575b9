"""What conversion writes for hardware, hardware builds: every construct as a machine, against the golden model in every spike."""

import numpy as np
import pytest

from hw.pipeline.machine import Machine
from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.encode import encode
from model.golden import run
from model.importers.onnx import import_model
from model.machine.named_plans import named_plan
from model.machine.stages import ports
from model.network import MaxPool, Network, Transposed
from model.projection import ConvolutionProjection
from model.support.datasets import Dataset
from tests.hardware import event_tokens, pairs, simulate, sink, source
from tests.onnx_graphs import Graph

FRAMES = 2
EVENTS = 40
"""Of a frame; simulated time grows with them."""


def average(g, **attributes):
    return g.add("AveragePool", kernel_shape=[2, 2], strides=[2, 2], **attributes)


NETWORKS = {
    "dilations, strides, padding on one side": lambda g: g.conv(3, 2, (3, 2), dilations=[2, 1], strides=[1, 2], pads=[0, 1, 2, 0])
    .add("Relu")
    .add("Flatten")
    .linear(72, 3),
    "depthwise separable, norm after": lambda g: g.conv(4, 1, 3, group=2, pads=[1] * 4, bias=False)
    .norm(4)
    .add("Relu")
    .conv(3, 4, 1)
    .add("Relu")
    .add("GlobalAveragePool")
    .add("Flatten")
    .linear(3, 3),
    "average into the convolution after": lambda g: average(g.conv(3, 2, 3).add("Relu")).conv(3, 3, 2),
    "average into the convolution before": lambda g: average(g.conv(3, 2, 3)).add("Relu").add("Flatten").linear(27, 3),
    "average of all positions at the end": lambda g: g.conv(3, 2, 3).add("Relu").add("GlobalAveragePool"),
    "norm in front, max-pool with gaps and padding": lambda g: g.norm(2)
    .conv(3, 2, 3)
    .add("Relu")
    .add("MaxPool", kernel_shape=[2, 3], strides=[3, 3], pads=[1, 0, 0, 2])
    .add("Transpose", perm=[0, 2, 3, 1])
    .add("Flatten")
    .linear(12, 3),
    "transposed convolution": lambda g: g.conv(3, 2, 3, strides=[2, 2], pads=[1] * 4)
    .add("Relu")
    .add("ConvTranspose", g.rng.normal(0, 0.4, (3, 2, 3, 2)), strides=[2, 1], pads=[1, 0, 0, 1])
    .add("Relu")
    .add("Flatten")
    .linear(64, 3),
    "repeated values, then a convolution": lambda g: g.conv(3, 2, 3, strides=[2, 2], pads=[1] * 4)
    .add("Relu")
    .add("Resize", "", np.array([1.0, 1.0, 2.0, 2.0]), mode="nearest")
    .conv(2, 3, 3, pads=[1] * 4)
    .add("Relu")
    .add("Flatten")
    .linear(128, 3),
    "max-pool whose windows overlap": lambda g: g.conv(3, 2, 3)
    .add("Relu")
    .add("MaxPool", kernel_shape=[3, 3], strides=[2, 2])
    .add("Flatten")
    .linear(12, 3),
    "global max-pool": lambda g: g.conv(3, 2, 3).add("Relu").add("GlobalMaxPool").add("Flatten").linear(3, 3),
    "no bias, no ReLU": lambda g: g.conv(3, 2, 3, bias=False, auto_pad="SAME_UPPER", strides=[2, 2]).conv(2, 3, 2),
}


@pytest.mark.parametrize("construct", NETWORKS)
def test_machine_is_the_golden_model(construct):
    network = converted(construct)
    frames = [np.where(np.random.default_rng(n).random((8, 8, 2)) < EVENTS / 128, 255 - n, 0) for n in range(FRAMES)]
    events = [encode(network, frame.astype(np.uint8)) for frame in frames]
    traces = [run(network, frame) for frame in events]
    links = ports(network)
    expected = {
        name: [item for frame, trace in zip(events, traces, strict=True)
               for item in (*pairs(frame if name == "input" else trace.layers[name].spikes), "end")]
        for name in links
    }
    spikes = [[item for item in items if item != "end"] for items in expected.values()]
    assert all(spikes) and any(sign < 0 for items in spikes[1:] for _, sign in items)
    machine, results, copies = Machine(network=network, plan=named_plan(network, "default")), [], []

    async def watch_all(ctx):
        ctx.set(machine.watch, (1 << len(network.layers) + 1) - 1)

    simulate(
        machine,
        watch_all,
        source(machine.host, event_tokens(network.input_shape, events, port=0)),
        sink(machine.result, results, FRAMES),
        sink(machine.watched, copies, sum(map(len, expected.values()))),
    )
    found = {name: [] for name in links}
    names = {port: name for name, port in links.items()}
    for token in copies:
        name = names[token.port]
        address = network.shape_of(name).address(token.y, token.x, token.c)
        found[name].append("end" if token.kind.value else (address, -1 if token.negative else 1))
    assert found == expected
    assert [[int(n) for n in result.counts] for result in results] == [trace.counts.tolist() for trace in traces]


def converted(construct) -> Network:
    floats = import_model(NETWORKS[construct](Graph(17, seed=4)).model(), "net.onnx")
    images = np.random.default_rng(3).integers(0, 256, (30, 8, 8, 2), dtype=np.uint8)
    labels = floats.run((images > 51).astype(np.float32))[0].reshape(30, -1).argmax(axis=1)
    data = Dataset(name="own", images=images, labels=labels)
    network = convert(floats, data, Settings(threshold=0.3, for_hardware=True), name="net").network
    groups = {layer.groups for layer in network.layers if isinstance(layer, ConvolutionProjection)}
    assert groups == ({1, 2} if "depthwise" in construct else {1})
    kinds = {"transposed": Transposed, "repeated": Transposed, "overlap": MaxPool}
    assert all(any(isinstance(layer, kind) for layer in network.layers) for word, kind in kinds.items() if word in construct)
    return network
