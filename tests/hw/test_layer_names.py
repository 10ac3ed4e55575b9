"""Layers called like members, ports, reserved words, or other layers but for an ending or case: the same hardware."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from hw.flow.verilog import to_verilog
from hw.machines import machine_of
from model.machine.named_plans import named_plan
from model.network import INPUT, MaxPool, Network, Shape
from sim.generators.networks import random_convolution, random_linear

_PLAIN = ("qqaqq", "qqbqq", "qqcqq", "qqdqq")
_NETWORK = Network(
    name="n",
    input_shape=Shape(5, 5, 1),
    layers=(
        random_convolution(0, inputs=1, channels=2, name=_PLAIN[0]),
        MaxPool(name=_PLAIN[1], source=_PLAIN[0], window=(2, 2), stride=(2, 2)),
        replace(random_linear(1, inputs=2, outputs=2, name=_PLAIN[2]), source=_PLAIN[1]),
        replace(random_linear(2, inputs=2, outputs=2, name=_PLAIN[3]), source=_PLAIN[2]),
    ),
)


def verilog(names, plan):
    """Lines of the machine's Verilog, however they are ordered and numbered, with layers of these names."""
    of = {INPUT: INPUT, **dict(zip(_PLAIN, names, strict=True))}
    layers = tuple(replace(layer, name=of[layer.name], source=of[layer.source]) for layer in _NETWORK.layers)
    network = replace(_NETWORK, layers=layers)
    return to_verilog(machine_of(network, named_plan(network, plan)), "machine")


@pytest.mark.parametrize("plan", ["minimal", "folded"])
def test_names_change_nothing_but_names(plan):
    plain = verilog(_PLAIN, plan)
    for names in (("module", "None", "host", "router"), ("a", "A", "a__payload", "a_1"), ("_", "__", "clk", "x" * 100)):
        renamed = plain
        for before, after in zip(_PLAIN, names, strict=True):
            renamed = renamed.replace(before, after)
        # Declarations stand in the order of names, and numbers tell apart what is called alike.
        found, wanted = (Counter(re.sub(r"\$\d+", "$", text).splitlines()) for text in (verilog(names, plan), renamed))
        assert found == wanted
