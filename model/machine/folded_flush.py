"""The cycle model of the folded machine of a network that fires deferred, as `hw.folded.deferred_machine` does it.

As in `model.machine.folded_cycles`, the states of its control follow each other here as in the hardware, under the same names.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.arrays import Images, Ints
from model.engine.engine import Stream
from model.events import Events
from model.machine.cycles import Cycles
from model.machine.folded_host import found_cycles, note, pass_cycles, reset_machine, run_batches, tick, wait_for_copy
from model.machine.folded_layout import Folded, FoldedInput, FoldedLayer
from model.machine.plan import Plan
from model.machine.registers import COMPARED, EVENTS, STARTED, record, write
from model.machine.schedule import END, reached
from model.machine.stages import ports
from model.network import INPUT, Network
from model.projection import Shape
from model.support.compiled import njit

__all__ = ["simulate_deferred"]

_UPDATE = 3
"""Cycles from the last block of a walk issued to the next state of the control."""

_FLUSH = 5
"""Cycles from the last member of a place issued to what it fires."""

_LAYER = record(
    # What it is: cycles from one block to the next; blocks of neurons, and members of all places; whether a pool follows, whether
    # its link is watched.
    *("step_cycles", "blocks", "members", "has_pool", "watched"),
    # The cycles spent on it.
    "busy",
    # How far it has come in its lists, and where its places begin; the first input that takes its events, -1 for none.
    *("at_group", "at_fired", "first_place", "first_taker"),
)

_INPUT = record(
    # Its layer; the next input that takes the same events, -1 for none; how far it has come in its list.
    *("layer", "further", "at_token"),
)


class _Lists(NamedTuple):
    """Of all layers, one after the other, what happens in them; and of all inputs.

    Parameters
    ----------
    steps : Ints
        Of each event of an input the blocks of its walk; of the first input's, `END` for each end of a frame.
    groups : Ints
        Where a max-pool follows, the places of the neurons that fire: which blocks of them; `END` after each frame.
    fired : Ints
        The places from which spikes leave; `END` after each frame.
    spikes : Ints
        How many do, 0 for `END`.
    members : Ints
        Of each place that there is, members up to its last one.
    """

    steps: Ints
    groups: Ints
    fired: Ints
    spikes: Ints
    members: Ints


class _Hardware(NamedTuple):
    """The registers.

    Parameters
    ----------
    machine : array of model.machine.folded_host.MACHINE
        One.
    layers : array of _LAYER
        In order.
    inputs : array of _INPUT
        Those of all layers, in order.
    activity : array of int8
        As of `Cycles`.
    """

    machine: npt.NDArray[np.void]
    layers: npt.NDArray[np.void]
    inputs: npt.NDArray[np.void]
    activity: npt.NDArray[np.int8]


def simulate_deferred(
    network: Network,
    plan: Plan,
    images: Images | Sequence[Events],
    *,
    idle: int,
    stall: int,
    seed: int,
    watch: int,
    record: bool,
    activity: int,
    batch: int,
    done: Callable[[int], None] | None,
) -> Cycles:
    """Run frames back to back through a folded machine whose neurons fire deferred.

    Arguments and result are those of `model.machine.simulate.simulate`. Cycle 0 is the first after reset, or, where weights
    have to be loaded, the first in which they are.
    """
    folded = Folded.of(network, plan)
    machine = reset_machine(folded, idle=idle, stall=stall, seed=seed, watch=watch)
    machine["records"] = record
    layers, links = np.zeros(len(folded.layers), _LAYER), ports(network)
    for la, layer in zip(folded.layers, layers, strict=True):
        layer["step_cycles"], layer["blocks"], layer["has_pool"] = la.step_cycles, la.state_words, la.pool is not None
        layer["members"] = _members(la)[-1]
        layer["watched"] = watch >> links[la.link] & 1
        layer["first_taker"] = next(iter(folded.takers(la.link)), -1)
    inputs = np.zeros(len(folded.inputs), _INPUT)
    inputs["layer"] = [each.layer for each in folded.inputs]
    inputs["further"] = [folded.further.get(number, -1) for number in range(len(inputs))]
    hardware = _Hardware(machine, layers, inputs, np.zeros((len(layers), activity), np.int8))

    def run(streams: dict[str, Stream], tokens: int, final: bool) -> Ints:
        steps = [_steps(each, streams[each.taker.source]) for each in folded.inputs]
        steps[0] = np.insert(steps[0], streams[INPUT].starts[1:], END)
        by_layer = [_lists(la, streams) for la in folded.layers]
        _rewind(hardware, steps, by_layer)
        # An event may be copied; a copy and an answer of the last batch may still wait.
        frames = len(streams[INPUT].starts) - 1
        events = tokens + sum(int(lists[2].sum()) + frames for lists in by_layer)
        groups = sum(len(lists[0]) + len(lists[1]) for lists in by_layer)
        log = np.empty((2, 2 * events + groups + 3 * frames + 2), np.int64)
        lists = _Lists(np.concatenate(steps), *map(np.concatenate, zip(*by_layer, strict=True)))
        _run(hardware, lists, log, tokens, final)
        return log[:, : int(machine["logged"][0])]

    found = run_batches(network, machine, images, batch=batch, done=done, run=run)
    none = np.zeros(len(layers), np.int64)
    return found_cycles(network, len(images), found, busy=layers["busy"], queued=none, activity=hardware.activity)


def _members(la: FoldedLayer) -> Ints:
    """Of each place of a layer, or of its max-pool, members up to its last one."""
    rows, columns = (np.array([size for _, size in la.windows(axis)]) for axis in (0, 1))
    return np.repeat(np.outer(rows, columns).reshape(-1), la.blocks).cumsum()


def _steps(each: FoldedInput, source: Stream) -> Ints:
    """Of each event of an input the blocks of its walk."""
    y, x = np.divmod(source.address // each.source.channels, each.source.width)
    rows, columns = (reached(each.taker, each.source, axis)[1] for axis in (0, 1))
    return rows[y] * columns[x] * each.blocks


def _lists(la: FoldedLayer, streams: dict[str, Stream]) -> tuple[Ints, Ints, Ints, Ints]:
    """The lists of one layer: all but the first of `_Lists`."""
    groups, _ = _places(streams[la.layer.name], la.output, la) if la.pool else (np.zeros(0, np.int64), None)
    fired, spikes = _places(streams[la.link], la.leaving, la)
    return groups, fired, spikes, _members(la)


def _places(stream: Stream, shape: Shape, la: FoldedLayer) -> tuple[Ints, Ints]:
    """The places that fire, `END` after each frame; and how many spikes each."""
    frames = len(stream.starts) - 1
    frame = np.repeat(np.arange(frames), np.diff(stream.starts))
    position, channel = np.divmod(stream.address.astype(np.int64), shape.channels)
    # In the order in which they are visited: spikes of a place follow each other.
    keys, spikes = np.unique(np.stack([frame, position * la.blocks + channel // la.lanes]), axis=1, return_counts=True)
    ends = np.searchsorted(keys[0], np.arange(frames), side="right")
    return np.insert(keys[1], ends, END), np.insert(spikes.astype(np.int64), ends, 0)


def _rewind(hardware: _Hardware, steps: Sequence[Ints], by_layer: Sequence[tuple[Ints, Ints, Ints, Ints]]) -> None:
    """To the beginning of new lists, which lie one input's, or one layer's, after the other's."""
    token = group = fired = place = 0
    for each, of_input in zip(hardware.inputs, steps, strict=True):
        each["at_token"] = token
        token += len(of_input)
    for layer, (groups, places, _, members) in zip(hardware.layers, by_layer, strict=True):
        layer["at_group"], layer["at_fired"], layer["first_place"] = group, fired, place
        group += len(groups)
        fired += len(places)
        place += len(members)


@njit(cache=True)
def _spend(hardware, number, begun):  # type: ignore[no-untyped-def]
    """Cycles since ``begun`` were spent on a layer."""
    cycle = hardware.machine[0].cycle
    hardware.layers[number].busy += cycle - begun
    hardware.activity[number, begun:cycle] = 1


@njit(cache=True)
def _take(machine, inputs, lists, log):  # type: ignore[no-untyped-def]
    """PICK: the host's next token. Returns whether it ends a frame, and the cycle in which it is taken."""
    is_end = lists.steps[inputs[0].at_token] == END
    while not machine.host or (machine.watched and machine.copy) or (is_end and machine.result):
        tick(machine, log, False, False, False)
    begun = machine.cycle
    note(machine, log, EVENTS)
    if not machine.in_frame:
        write(machine, log, STARTED)
    machine.in_frame = not is_end
    inputs[0].at_token += is_end
    tick(machine, log, True, machine.watched, False)
    return is_end, begun


@njit(cache=True)
def _add(hardware, number, lists, log, begun):  # type: ignore[no-untyped-def]
    """An event that was taken in cycle ``begun`` is added to the neurons that it reaches, by one input after another."""
    machine = hardware.machine[0]
    while number >= 0:
        each = hardware.inputs[number]
        # LOOK, SUM
        pass_cycles(machine, log, 2)
        steps = lists.steps[each.at_token]
        each.at_token += 1
        if steps:
            # WALK, DRAIN
            pass_cycles(machine, log, (steps - 1) * hardware.layers[each.layer].step_cycles + _UPDATE)
        _spend(hardware, each.layer, begun)
        number, begun = each.further, machine.cycle
        if number >= 0:
            # SHARE
            pass_cycles(machine, log, 1)


@njit(cache=True)
def _show(machine, layer, groups, lists, log):  # type: ignore[no-untyped-def]
    """FLUSH: neurons before a max-pool show what they fire, and nothing stops for it."""
    begun = machine.cycle
    while lists.groups[layer.at_group] != END:
        pass_cycles(machine, log, begun + 1 + lists.groups[layer.at_group] + _FLUSH - machine.cycle)
        note(machine, log, groups)
        layer.at_group += 1
    layer.at_group += 1
    pass_cycles(machine, log, begun + layer.blocks + _FLUSH + 1 - machine.cycle)


@njit(cache=True)
def _flush(hardware, number, lists, log):  # type: ignore[no-untyped-def]
    """A layer is flushed, and the end of the frame passes on."""
    machine, layers = hardware.machine[0], hardware.layers
    layer = layers[number]
    groups, spent = EVENTS + 1 + len(layers) + 2 * number, machine.cycle
    if layer.has_pool:
        _show(machine, layer, groups, lists, log)
    begun, visited = machine.cycle, 0
    while lists.fired[layer.at_fired] != END:
        # FLUSH, a cycle before the first member; SEND
        members = lists.members[layer.first_place + lists.fired[layer.at_fired]]
        pass_cycles(machine, log, begun + members - visited + _FLUSH - machine.cycle)
        note(machine, log, groups + layer.has_pool)
        pass_cycles(machine, log, 1)
        for _ in range(lists.spikes[layer.at_fired]):
            wait_for_copy(machine, log, layer.watched)
            note(machine, log, EVENTS + 1 + number)
            taken = machine.cycle
            tick(machine, log, False, layer.watched, False)
            if layer.first_taker >= 0:
                layer.busy += taken - spent
                hardware.activity[number, spent:taken] = 1
                _add(hardware, layer.first_taker, lists, log, taken)
                spent = machine.cycle
        layer.at_fired += 1
        pass_cycles(machine, log, 1)
        begun, visited = machine.cycle, members
    layer.at_fired += 1
    pass_cycles(machine, log, 1 if visited == layer.members else layer.members - visited + _FLUSH + 1)
    # PASS
    wait_for_copy(machine, log, layer.watched)
    note(machine, log, EVENTS + 1 + number)
    note(machine, log, groups)
    if layer.has_pool:
        note(machine, log, groups + 1)
    tick(machine, log, False, layer.watched, False)
    _spend(hardware, number, spent)


@njit(cache=True)
def _run(hardware, lists, log, tokens, final):  # type: ignore[no-untyped-def]
    """Until so many tokens are taken and, at the end, answered."""
    machine, layers = hardware.machine[0], hardware.layers
    if machine.sweeps:
        machine.sweeps = 0
        pass_cycles(machine, log, machine.tag_depth)
    for _ in range(tokens):
        is_end, begun = _take(machine, hardware.inputs, lists, log)
        if not is_end:
            _add(hardware, 0, lists, log, begun)
            continue
        for number in range(len(layers)):
            _flush(hardware, number, lists, log)
        # COMPARE
        pass_cycles(machine, log, machine.outputs - 1)
        write(machine, log, COMPARED)
        tick(machine, log, False, False, True)
        machine.generation += 1
        if machine.generation > machine.generations:
            machine.generation = 1
            pass_cycles(machine, log, machine.tag_depth)
    while final and (machine.result or machine.copy):
        tick(machine, log, False, False, False)
