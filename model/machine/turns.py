"""What merges with barriers keep where graphs are entangled (`model.machine.barriers.entangled`), so that no machine hangs.

A merge that reads one input may hold up another, and with it a link that a second merge waits for. It does not where the queue in
front of each input but the first holds all that one event of the merge's fork can cause there. Then what is stuck before a full
queue belongs to a later turn than that merge is in. Go round a circle of merges that each wait for what the next one holds up:
seen from the outermost of their forks turns never get earlier, and at that fork's own merge they get later, which no circle can.
"""

from model.machine.barriers import entangled
from model.machine.plan import MOST_JOINED, PlanError
from model.machine.stages import most_spikes
from model.network import Network, Neurons
from model.projection import Projection

__all__ = ["joins", "most_in_turn"]

_BUFFERED = 2
"""Tokens that find room in an input's register stage."""


def most_in_turn(network: Network, fork: str) -> dict[str, int]:
    """The most tokens that an event of ``fork`` can cause, of itself and of each layer that no way leads to but through it.

    For each event that it takes a layer fires each neuron that the event reaches, as often as it may at once, and sends a barrier
    alone; of a max-pool each spike moves each window that it is in.
    """
    found = {fork: 1}
    for layer in network.layers:
        if layer.name == fork or not all(source in found for source in layer.sources):
            continue
        total = 0
        for taker, shape, _ in network.inputs(layer):
            rows, columns = (max((len(pairs) for pairs in taker.taps(shape, axis)), default=0) for axis in (0, 1))
            spikes = rows * columns
            if isinstance(layer, Neurons) and isinstance(taker, Projection):
                reached = max(len(taker.channels_of(channel)) for channel in range(shape.channels))
                spikes *= reached * most_spikes(network, layer)
            total += found[taker.source] * (spikes + 1)
        found[layer.name] = total
    return found


def joins(network: Network) -> dict[str, int]:
    """Of each merge that needs queues the least that they have to hold (`CorePlan.join_fifo`); none where none is entangled.

    Raises
    ------
    PlanError
        A queue would have to hold more than there is room for.
    """
    found: dict[str, int] = {}
    if not entangled(network):
        return found
    for layer in network.layers:
        if len(layer.sources) > 1:
            fork = network.fork(layer.name)
            turn = most_in_turn(network, fork)
            source = max(layer.sources[1:], key=lambda name: turn[name])
            if turn[source] > MOST_JOINED:
                raise PlanError(
                    f"layer {layer.name!r}: an event of {fork!r} may cause {turn[source]} events of {source!r}, and the network "
                    f"fires immediate: a merge keeps {MOST_JOINED} at most; convert with --firing deferred"
                )
            if turn[source] > _BUFFERED:
                found[layer.name] = turn[source]
    return found
