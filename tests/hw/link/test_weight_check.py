"""What a system says of its weights over its two wires: passes, layers that differ, and a flag in each result."""

from dataclasses import replace

import numpy as np
import pytest

from hw.link.protocol import RESULT, WEIGHTS, Capability, Command, Flag, Status, packet, weight_mask_bytes
from hw.parts.background_check import BackgroundCheck
from model.encode import encode
from model.golden import run
from model.machine.named_plans import named_plan
from model.studies.random_network import drawn
from sim.wire import SimulatedWire

NETWORK = drawn("6x6x1: 2C3 P2 4F")
PLAN = replace(named_plan(NETWORK, "minimal"), weight_check=True)
FRAME = np.random.default_rng(1).integers(0, 256, NETWORK.input_shape, dtype=np.uint8)
WORDS = {"p1": 2 * 9, "f2": 4 * 8}
"""Of each core's weights, with a lane."""


def asked(wire, command, payload=b""):
    wire.send(packet(1, command, payload))
    ((number, found, answer),) = wire.receive(1)
    assert (number, found) == (1, command)
    return answer


def weights(wire):
    """Passes, and mask of layers."""
    answer = asked(wire, Command.WEIGHTS)
    assert len(answer) == WEIGHTS.size + weight_mask_bytes(NETWORK)
    return WEIGHTS.unpack_from(answer)[0], int.from_bytes(answer[WEIGHTS.size :], "little")


def flags(wire):
    """Those of a result that is the golden model's."""
    trace = run(NETWORK, encode(NETWORK, FRAME))
    answer = asked(wire, Command.FRAME, FRAME.tobytes())
    found, _, flags = RESULT.unpack_from(answer)
    assert (found, np.frombuffer(answer[RESULT.size :], "<i2").tolist()) == (trace.answer, trace.counts.tolist())
    return flags


def test_passes_are_counted_and_the_right_weights_never_differ():
    with SimulatedWire(NETWORK, PLAN) as wire:
        assert asked(wire, Command.IDENTIFY)[2] & Capability.WEIGHT_CHECK
        first, before = weights(wire), wire.cycles
        assert flags(wire) == 0
        wire.run(40_000)
        last, cycles = weights(wire), wire.cycles - before
        assert first[0] > 0 and first[1] == last[1] == 0
        # Mostly idle: a pass takes as many cycles as the core with the most words has of these.
        assert last[0] - first[0] == pytest.approx(cycles / max(WORDS.values()), rel=0.1)


@pytest.mark.parametrize(("name", "mask"), [("p1", 0b01), ("f2", 0b10)])
def test_a_layer_whose_weights_differ_is_told_until_a_reset_and_again(name, mask, monkeypatch):
    """The hardware expects other weights of one layer, which is the same as that it holds others."""
    right = BackgroundCheck.expected.fget
    other = property(lambda check: right(check) ^ (check.depth == WORDS[name]))
    monkeypatch.setattr(BackgroundCheck, "expected", other)
    monkeypatch.setattr("sim.wire._programs", {})
    # Another name, so that what is compiled is not taken for the machine's.
    network = replace(NETWORK, name=f"wrong_{name}")
    with SimulatedWire(network, replace(PLAN, name=f"wrong_{name}")) as wire:
        assert weights(wire)[1] == mask
        assert flags(wire) == Flag.WEIGHTS_DIFFER
        asked(wire, Command.RESET)
        wire.run(4 * 400)
        passes, differ = weights(wire)
        assert passes > 0 and differ == mask


def test_without_the_check_there_is_no_such_command():
    with SimulatedWire(NETWORK, named_plan(NETWORK, "minimal")) as wire:
        assert not asked(wire, Command.IDENTIFY)[2] & Capability.WEIGHT_CHECK
        wire.send(packet(1, Command.WEIGHTS))
        assert wire.receive(1) == [(1, Status.BAD_COMMAND, b"")]
        assert flags(wire) == 0
