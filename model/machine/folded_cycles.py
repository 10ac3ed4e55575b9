"""The cycle model of the folded machine: when everything happens, cycle for cycle as `hw.folded.machine` does it.

What passes is given by `model.machine.schedule`, as for the pipeline. There is one core, which does one thing after the other:
here the states of its control follow each other as in the hardware, and under the same names.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.arrays import Images, Ints
from model.engine.engine import Stream, merged
from model.events import Events
from model.machine.cycles import Cycles
from model.machine.folded_host import found_cycles, note, pass_cycles, reset_machine, run_batches, tick, wait_for_copy
from model.machine.folded_layout import Folded, FoldedLayer
from model.machine.folded_order import Action
from model.machine.plan import Plan
from model.machine.registers import COMPARED, EVENTS, STARTED, record, write
from model.machine.schedule import END, reached
from model.machine.stages import ports, stages
from model.network import INPUT, Network
from model.support.compiled import njit

__all__ = ["simulate_folded"]

PIPELINE = 4
"""Cycles from a block issued to what it fires."""

POOL_PIPELINE = 3
"""Cycles from a position of the pool's window asked for to its count."""

_TAKE, _KEEP, _RELEASE = range(3)

_ACTIONS = {Action.TAKE: _TAKE, Action.KEEP: _KEEP, Action.RELEASE: _RELEASE}

_LAYER = record(
    # What it is: cycles from one block to the next, blocks at a position, whether a pool follows, whether its link is watched.
    *("step_cycles", "blocks", "has_pool", "watched"),
    # The cycles spent on it.
    "busy",
    # How far it has come in its lists, and where these begin and end.
    *("at_token", "at_fired", "first_token", "end_fired"),
)

_LINK = record(
    # Its services: the first of them, and how many.
    *("first", "services"),
    # Events that wait on it, the most that ever did; how many services the first of them has had.
    *("queued", "highest", "served"),
)

_SERVICE = record("action", "number", "layer")


class _Lists(NamedTuple):
    """Of all layers, one after the other, what happens in them.

    Parameters
    ----------
    steps : Ints
        Of each token the blocks of its walk, `END` for an end of frame.
    fired_token, fired_step : Ints
        Of each block that fires (and each end) its token, and its number in the walk.
    survivors : Ints
        The spikes that leave for it.
    members : Ints
        Positions of the pool's window that it is in.
    """

    steps: Ints
    fired_token: Ints
    fired_step: Ints
    survivors: Ints
    members: Ints


class _Hardware(NamedTuple):
    """The registers.

    Parameters
    ----------
    machine : array of model.machine.folded_host.MACHINE
        One.
    layers : array of _LAYER
        In order.
    links : array of _LINK
        The network's input, and what leaves each layer.
    services : array of _SERVICE
        Of all links.
    kept : Ints
        Of each input, how many events it keeps.
    activity : array of int8
        As of `Cycles`.
    """

    machine: npt.NDArray[np.void]
    layers: npt.NDArray[np.void]
    links: npt.NDArray[np.void]
    services: npt.NDArray[np.void]
    kept: Ints
    activity: npt.NDArray[np.int8]


def simulate_folded(
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
    """Run frames back to back through a folded machine.

    Arguments and result are those of `model.machine.simulate.simulate`. Cycle 0 is the first after reset, or, where weights
    have to be loaded, the first in which they are.
    """
    folded, cores = Folded.of(network, plan), stages(network)
    hardware = _reset(network, folded, idle=idle, stall=stall, seed=seed, watch=watch, activity=activity)
    hardware.machine["records"] = record

    def run(streams: dict[str, Stream], tokens: int, final: bool) -> Ints:
        taken = _taken(network, streams)
        by_layer = [_lists(network, la, taken[la.layer.name], streams) for la in folded.layers]
        _rewind(hardware.layers, by_layer)
        # An event may be copied, and a group may pass the pool; a copy and an answer of the last batch may still wait.
        frames = len(streams[INPUT].starts) - 1
        events = tokens + sum(len(streams[stage.name].address) + frames for stage in cores)
        groups = sum(len(lists.fired_token) for lists in by_layer)
        log = np.empty((2, 2 * events + 2 * groups + 3 * frames + 2), np.int64)
        _run(hardware, _Lists(*map(np.concatenate, zip(*by_layer, strict=True))), log, tokens, final)
        return log[:, : int(hardware.machine["logged"][0])]

    found = run_batches(network, hardware.machine, images, batch=batch, done=done, run=run)
    queued = hardware.links["highest"][1:]
    return found_cycles(network, len(images), found, busy=hardware.layers["busy"], queued=queued, activity=hardware.activity)


def _reset(network: Network, folded: Folded, *, idle: int, stall: int, seed: int, watch: int, activity: int) -> _Hardware:
    """The registers after reset."""
    machine, layers = reset_machine(folded, idle=idle, stall=stall, seed=seed, watch=watch), np.zeros(len(folded.layers), _LAYER)
    watched = ports(network)
    for la, layer in zip(folded.layers, layers, strict=True):
        layer["step_cycles"], layer["blocks"], layer["has_pool"] = la.step_cycles, la.blocks, la.pool is not None
        layer["watched"] = watch >> watched[la.link] & 1
    links, every = np.zeros(len(folded.links), _LINK), [service for link in folded.links for service in link.services]
    links["services"] = [len(link.services) for link in folded.links]
    links["first"] = np.cumsum(links["services"]) - links["services"]
    services = np.zeros(len(every), _SERVICE)
    for of, service in zip(services, every, strict=True):
        of["action"], of["number"], of["layer"] = _ACTIONS[service.action], service.number, folded.inputs[service.number].layer
    kept = np.zeros(len(folded.inputs), np.int64)
    return _Hardware(machine, layers, links, services, kept, np.zeros((len(layers), activity), np.int8))


def _taken(network: Network, streams: dict[str, Stream]) -> dict[str, Stream]:
    """What each layer takes of its sources."""
    found: dict[str, Stream] = {}
    for layer in network.layers:
        found[layer.name] = merged(network, layer, streams, found)
    return found


def _lists(network: Network, la: FoldedLayer, taken: Stream, streams: dict[str, Stream]) -> _Lists:
    """The lists of one layer."""
    spikes, frames = streams[la.layer.name], len(taken.starts) - 1
    number = np.zeros(len(taken.address), np.int64) if taken.number is None else taken.number
    # Of each event that it takes, the first row and column that it reaches, and how many.
    reaches = np.zeros((4, len(number)), np.int64)
    for place, (taker, shape, first) in enumerate(network.inputs(la.layer)):
        mine = number == place
        y, x = np.divmod((taken.address[mine] - first) // shape.channels, shape.width)
        (first_y, rows), (first_x, columns) = (reached(taker, shape, axis) for axis in (0, 1))
        reaches[:, mine] = first_y[y], first_x[x], rows[y], columns[x]
    first_y, first_x, rows, columns = reaches
    steps = np.insert(rows * columns * la.blocks, taken.starts[1:], END)

    # Spikes of a block follow each other.
    event = taken.starts[spikes.frame] + spikes.cause
    position, channel = np.divmod(spikes.address.astype(np.int64), la.output.channels)
    y, x = np.divmod(position, la.output.width)
    step = ((y - first_y[event]) * columns[event] + x - first_x[event]) * la.blocks + channel // la.lanes
    new = np.ones(len(event), bool)
    new[1:] = (event[1:] != event[:-1]) | (step[1:] != step[:-1])
    at = np.flatnonzero(new)
    leaves, members = np.ones(len(event), np.int64), np.zeros(len(at), np.int64)
    if la.pool:
        pooled = streams[la.pool.name]
        leaves = np.bincount(spikes.starts[pooled.frame] + pooled.cause, minlength=len(event))
        sizes = [np.array([entry[2] if entry else 0 for entry in la.window(axis)]) for axis in (0, 1)]
        members = sizes[0][y[at]] * sizes[1][x[at]]
    survivors = np.add.reduceat(leaves, at) if len(at) else leaves

    # An end of frame is a token, and as one that fires.
    ends = np.searchsorted(spikes.frame[at], np.arange(frames), side="right")
    token = np.insert(event[at] + spikes.frame[at], ends, taken.starts[1:] + np.arange(frames))
    return _Lists(steps, token, np.insert(step[at], ends, 0), np.insert(survivors, ends, 0), np.insert(members, ends, 0))


def _rewind(layers: npt.NDArray[np.void], by_layer: Sequence[_Lists]) -> None:
    """To the beginning of new lists, which lie one layer's after the other's."""
    token = fired = 0
    for layer, lists in zip(layers, by_layer, strict=True):
        layer["at_token"] = layer["first_token"] = token
        layer["at_fired"] = fired
        token += len(lists.steps)
        fired += len(lists.fired_token)
        layer["end_fired"] = fired


@njit(cache=True)
def _take(machine, layers, lists, log):  # type: ignore[no-untyped-def]
    """PICK: the host's next token. Returns whether it ends a frame, and the cycle in which it is taken."""
    is_end = lists.steps[layers[0].at_token] == END
    while not machine.host or (machine.watched and machine.copy) or (is_end and machine.result):
        tick(machine, log, False, False, False)
    begun = machine.cycle
    note(machine, log, EVENTS)
    if not machine.in_frame:
        write(machine, log, STARTED)
    machine.in_frame = not is_end
    if is_end:
        for number in range(len(layers)):
            layer = layers[number]
            note(machine, log, EVENTS + 1 + number)
            groups = EVENTS + 1 + len(layers) + 2 * number
            note(machine, log, groups)
            if layer.has_pool:
                note(machine, log, groups + 1)
            layer.at_token += 1
            layer.at_fired += 1
    tick(machine, log, True, machine.watched, False)
    return is_end, begun


@njit(cache=True)
def _end(machine, layers, log):  # type: ignore[no-untyped-def]
    """The end of a frame: its answer."""
    if machine.watches:
        # ENDS
        for number in range(len(layers)):
            wait_for_copy(machine, log, layers[number].watched)
            tick(machine, log, False, layers[number].watched, False)
    # LOOK, SUM, WALK, DRAIN, COMPARE
    last = layers[len(layers) - 1]
    pass_cycles(machine, log, 2 + (last.blocks - 1) * last.step_cycles + PIPELINE + machine.outputs)
    write(machine, log, COMPARED)
    tick(machine, log, False, False, True)
    machine.generation += 1
    if machine.generation > machine.generations:
        machine.generation = 1
        pass_cycles(machine, log, machine.tag_depth)


@njit(cache=True)
def _fire(machine, layers, links, number, lists, log):  # type: ignore[no-untyped-def]
    """A block that fires: FIRED; MEMBERS, SETTLE; EMIT; RESUME."""
    layer = layers[number]
    groups = EVENTS + 1 + len(layers) + 2 * number
    note(machine, log, groups)
    survivors, members = lists.survivors[layer.at_fired], lists.members[layer.at_fired]
    layer.at_fired += 1
    pass_cycles(machine, log, 2)
    if layer.has_pool and members:
        pass_cycles(machine, log, members + POOL_PIPELINE)
        if not survivors:
            pass_cycles(machine, log, 1)
    for spike in range(survivors):
        wait_for_copy(machine, log, layer.watched)
        if spike == 0 and layer.has_pool:
            note(machine, log, groups + 1)
        note(machine, log, EVENTS + 1 + number)
        tick(machine, log, False, layer.watched, False)
    if links[number + 1].services:
        link = links[number + 1]
        link.queued += survivors
        link.highest = max(link.highest, link.queued)
    pass_cycles(machine, log, 1)


@njit(cache=True)
def _visit(machine, layers, links, number, lists, log):  # type: ignore[no-untyped-def]
    """All that an event reaches."""
    layer = layers[number]
    # LOOK, SUM
    pass_cycles(machine, log, 2)
    steps, token = lists.steps[layer.at_token], layer.at_token - layer.first_token
    layer.at_token += 1
    at_step = 0
    while at_step < steps:
        # WALK, DRAIN: to the next block that fires, or to the last.
        fires = layer.at_fired < layer.end_fired and lists.fired_token[layer.at_fired] == token
        stop = lists.fired_step[layer.at_fired] if fires else steps - 1
        pass_cycles(machine, log, (stop - at_step) * layer.step_cycles + PIPELINE)
        at_step = stop + 1
        if not fires:
            pass_cycles(machine, log, 1)
            break
        _fire(machine, layers, links, number, lists, log)


@njit(cache=True)
def _serve(hardware, number, log):  # type: ignore[no-untyped-def]
    """PICK, FETCH: a link's first event is served once more. Returns the layer that takes an event by it, -1 for none."""
    link = hardware.links[number]
    service = hardware.services[link.first + link.served]
    pass_cycles(hardware.machine[0], log, 2)
    if service.action == _RELEASE and hardware.kept[service.number]:
        hardware.kept[service.number] -= 1
        return service.layer
    if service.action == _KEEP:
        hardware.kept[service.number] += 1
    link.served += 1
    if link.served == link.services:
        link.served = 0
        link.queued -= 1
    return service.layer if service.action == _TAKE else -1


@njit(cache=True)
def _run(hardware, lists, log, tokens, final):  # type: ignore[no-untyped-def]
    """Until so many tokens are taken and, at the end, answered."""
    machine, layers, links = hardware.machine[0], hardware.layers, hardware.links
    if machine.sweeps:
        machine.sweeps = 0
        pass_cycles(machine, log, machine.tag_depth)
    while tokens:
        # PICK
        begun = machine.cycle
        number = len(links) - 1
        while number >= 0 and not links[number].queued:
            number -= 1
        if number >= 0:
            number = _serve(hardware, number, log)
            if number < 0:
                continue
        else:
            is_end, begun = _take(machine, layers, lists, log)
            tokens -= 1
            if is_end:
                _end(machine, layers, log)
                continue
            # The host's event waits where the first input is not the only one that takes it.
            number = hardware.services[links[0].first].layer
            links[0].served, links[0].queued = 1 % links[0].services, links[0].services > 1
        _visit(machine, layers, links, number, lists, log)
        layers[number].busy += machine.cycle - begun
        hardware.activity[number, begun : machine.cycle] = 1
    while final and (machine.result or machine.copy):
        tick(machine, log, False, False, False)
