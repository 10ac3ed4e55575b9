"""A device against the golden model: answers, cycles, saturations, potentials, and what its wire lost."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from boards.device import Answer, Device, State
from model.encode import encode
from model.engine.engine import run_fast, run_frames
from model.events import Events
from model.golden import answers
from model.machine.limits import SATURATIONS_WIDTH
from model.network import INPUT, Network, Neurons
from model.neuron import accumulate_residual
from model.rest import State as FirstState
from model.rest import first_states, weighted_sums

__all__ = ["Check", "golden_answers", "golden_states", "layer_states", "self_test"]

_MOST_COUNTED = (1 << SATURATIONS_WIDTH) - 1
"""Where a device's counters of saturations stop."""


@dataclass(frozen=True)
class Check:
    """A test of a device.

    Parameters
    ----------
    name : str
        What was tested.
    passed : bool
        Whether it is as it must be.
    seen : str
        What was seen, for people.
    """

    name: str
    passed: bool
    seen: str


def self_test(device: Device, network: Network, images: npt.NDArray[np.uint8]) -> list[Check]:
    """What works, and what does not.

    Parameters
    ----------
    device : Device
        The device; its weights are there where it has to be loaded.
    network : Network
        What is on it.
    images : numpy.ndarray
        Frames to compare, ``uint8``, ``(frames, height, width, channels)``.

    Raises
    ------
    DeviceError
        If another network is on the device, or an answer cannot be one.
    """
    device.require(network)
    device.reset()
    if device.identity.loads:
        # What the memory holds outlives a reset, but has to be checked again.
        device.check()
    expected = run_frames(network, images)
    answers = [device.classify(image) for image in images]
    golden = golden_answers(expected.counts)
    wrong = sum((found.answer, found.counts) != wanted for found, wanted in zip(answers, golden, strict=True))
    cycles = [answer.cycles for answer in answers]
    again = [device.classify(image).cycles for image in images]
    # Every frame went in twice; a counter stops at its end.
    events = np.minimum(2 * expected.saturated_events.sum(axis=0), _MOST_COUNTED)
    wanted = tuple(int(n) for n, layer in zip(events, network.layers, strict=True) if isinstance(layer, Neurons))
    saturations = device.saturations(network)
    states = [_output_states(device, network, images[0])] if device.identity.states else []
    bits = [_frames_of_bits(device, network, images, golden)] if device.identity.bits else []
    errors = device.errors()
    return [
        Check("frames", not wrong, f"{len(images)} frames, {wrong} differ from the golden model"),
        Check("cycles", cycles == again, f"{min(cycles):,} to {max(cycles):,} a frame, the same twice"),
        Check("saturations", saturations == wanted, f"input events of each layer: {saturations}, golden model {wanted}"),
        *states,
        *bits,
        Check("wire", errors.clean and not device.resent, f"{errors}, {device.resent} packets sent again"),
    ]


def golden_answers(counts: npt.NDArray[np.int64]) -> list[tuple[int, tuple[int, ...]]]:
    """Class and counts of each frame, of its counts."""
    return list(zip(answers(counts).tolist(), map(tuple, counts.tolist()), strict=True))


def _frames_of_bits(
    device: Device, network: Network, images: npt.NDArray[np.uint8], golden: list[tuple[int, tuple[int, ...]]]
) -> Check:
    """Whether frames that come with a bit per pixel have the answers of the golden model."""
    answers = [device.classify_bits(network, image) for image in images]
    wrong = sum((found.answer, found.counts) != wanted for found, wanted in zip(answers, golden, strict=True))
    return Check("bits", not wrong, f"{len(images)} frames of a bit per pixel, {wrong} differ from the golden model")


def _output_states(device: Device, network: Network, image: npt.NDArray[np.uint8]) -> Check:
    """Whether the output layer's neurons, before the frame ends, are as in the golden model."""
    events, output = encode(network, image), network.output
    places = np.ndindex(*network.shape_of(output.name))
    found, answer = layer_states(device, network, output.name, events, places)
    wanted = golden_states(network, output.name, events)
    right = found == wanted and answer.counts == tuple(run_fast(network, events).counts.tolist())
    potentials, golden = ([state.potential for state in states] for states in (found, wanted))
    return Check("potentials", right, f"of {output.name}: {potentials}, golden model {golden}")


def layer_states(
    device: Device, network: Network, layer: str, events: Events, places: Iterable[tuple[int, ...]]
) -> tuple[list[State], Answer]:
    """The states of these neurons after all events of a frame, and its answer."""
    device.begin_frame(network, events["address"].tolist())
    found = [device.state(network, layer, *place) for place in places]
    return found, device.end_frame(network)


def golden_states(network: Network, layer: str, events: Events) -> list[State]:
    """The states of all neurons of a layer, in ascending ``(y, x, c)``, after these input events and before the frame ends."""
    if network.deferred:
        trace = _before_the_flush(network, layer, events)
    else:
        of = run_fast(network, events).layers[layer]
        trace = FirstState(of.potential, of.count)
    return [State(int(v), int(q)) for v, q in zip(trace.potential.flat, trace.count.flat, strict=True)]


def _before_the_flush(network: Network, name: str, events: Events) -> FirstState:
    """The states of a layer of a network that fires deferred, before the flush at the end of the frame.

    Since the flush before, or since the start, nothing has fired, and only the input's events were added.
    """
    first = first_states(network)[name]
    if network.flush_events and (flushed := len(events) // network.flush_events * network.flush_events):
        # To flush again at once, as at the end of a frame, changes nothing.
        of, events = run_fast(network, events[:flushed]).layers[name], events[flushed:]
        first = FirstState(of.potential, of.count)
    layer, shape, output = next(walked for walked in network.walk() if walked[0].name == name)
    assert isinstance(layer, Neurons)
    if layer.source != INPUT:
        return first
    counts = np.bincount(events["address"], events["sign"], minlength=shape.size).astype(np.float64).reshape(1, *shape)
    sums = weighted_sums(layer, layer.weights, counts, shape, output)[0].astype(np.int64)
    residual = accumulate_residual(layer, first.potential - first.count * layer.theta, sums)
    return FirstState(residual + first.count * layer.theta, first.count)
