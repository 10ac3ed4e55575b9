"""Energy of a frame, as modelled: operations counted exactly, each at a published energy.

What is counted is what the machine does: additions of the lanes, words of state and weights that are read and written, events
that pass a link. What an operation costs is published for 45 nm (Horowitz, "Computing's energy problem", ISSCC 2014): an
addition by its width, a memory access by the size of the memory. So the figure compares plans and networks, and is no
measurement: an FPGA of today spends several times as much, most of it in its wires, its clock tree and at rest, and none of
that is included.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.engine.engine import Stream
from model.machine.plan import Plan
from model.machine.schedule import mean_visits, reached, state_words
from model.machine.stages import blocks_visited, count_bits, flush_columns, flush_steps, stages
from model.network import MaxPool, Network, Neurons

__all__ = ["ADD_PJ", "HOP_PJ", "MEMORY_PJ", "NOT_INCLUDED", "Energy", "add_pj", "energy", "memory_pj"]

ADD_PJ = {8: 0.03, 32: 0.1}
"""Picojoules of an integer addition by its width in bits (Horowitz 2014)."""

MEMORY_PJ = ((8 << 10, 10.0), (32 << 10, 20.0), (1 << 20, 100.0))
"""Picojoules of an access of 64 bits by the size of the memory in bytes (Horowitz 2014)."""

HOP_PJ = 4.0
"""Picojoules of an event over one link: the dearer of the two directions between tiles of Loihi, 14 nm (Davies et al.,
"Loihi: a neuromorphic manycore processor with on-chip learning", IEEE Micro 2018, Table 2)."""


NOT_INCLUDED = ("static power", "the clock tree", "wires between blocks", "the host link")
"""What the model leaves out."""


def add_pj(bits: int) -> float:
    """Picojoules of an addition of ``bits``: on the line through the published widths."""
    (low, at_low), (high, at_high) = ADD_PJ.items()
    return max(0.0, at_low + (at_high - at_low) * (bits - low) / (high - low))


def memory_pj(bits: int, memory_bits: float) -> float:
    """Picojoules of reading or writing ``bits`` in a memory of ``memory_bits``.

    Between the published sizes, and on below the smallest, energy goes with a power of the size: the line through the
    neighbours in logarithms.
    """
    size = max(memory_bits / 8, 1)
    pairs = [(math.log(b), math.log(pj)) for b, pj in MEMORY_PJ]
    upper = next((n for n in range(1, len(pairs) - 1) if math.log(size) <= pairs[n][0]), len(pairs) - 1)
    (x0, y0), (x1, y1) = pairs[upper - 1], pairs[upper]
    return bits / 64 * math.exp(y0 + (y1 - y0) * (math.log(size) - x0) / (x1 - x0))


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Modelled energy of one core for a mean frame, in nanojoules, with the counts that it comes from.

    Parameters
    ----------
    core : str
        The link that leaves the core.
    additions : float
        Of potentials, counts and distances of a max-pool; comparisons with a threshold count as one of its width.
    state_words, weight_words : float
        Accesses to words of one lane: a state is read and written, which are two.
    hops : float
        Events that enter the core.
    additions_nj, state_nj, weights_nj, hops_nj : float
        Their energies.
    """

    core: str
    additions: float
    state_words: float
    weight_words: float
    hops: float
    additions_nj: float
    state_nj: float
    weights_nj: float
    hops_nj: float

    @property
    def total_nj(self) -> float:
        """All of it."""
        return self.additions_nj + self.state_nj + self.weights_nj + self.hops_nj


def energy(network: Network, plan: Plan, streams: Mapping[str, Stream]) -> tuple[Energy, ...]:
    """Modelled energy of each core of ``plan``, a frame, over the frames of ``streams``.

    Parameters
    ----------
    network, plan : Network, Plan
        The machine.
    streams : mapping of str to Stream
        Of `model.engine.engine.run_streams`.
    """
    found = []
    for stage in stages(network):
        first, last = stage.layers[0], stage.layers[-1]
        source = streams[stage.source]
        frames = len(source.starts) - 1
        events = sum(len(streams[name].address) for name in first.sources) / frames
        flushes = len(source.flushes.after) / frames if source.flushes else 0.0
        # Where a frame goes on after a flush, what it leaves is written.
        written = int(network.flush_events > 0)
        additions = state_words_used = weight_words = 0.0
        additions_pj = state_pj = weights_pj = 0.0
        if isinstance(first, Neurons):
            core = plan.core(first.name)
            updates = 0.0
            for (taker, shape, _), of_channels in zip(network.inputs(first), blocks_visited(network, core), strict=True):
                place, c = np.divmod(streams[taker.source].address, shape.channels)
                y, x = np.divmod(place, shape.width)
                rows, columns = (reached(taker, shape, axis)[1] for axis in (0, 1))
                blocks = np.array([len(of) for of in of_channels])[c]
                updates += float((rows[y] * columns[x] * blocks).sum()) / frames * core.channels
            # All that an update fires changes its neuron at once.
            fired = _firings(streams[first.name]) / frames
            word = first.potential_bits + first.count_bits + 1
            weights = sum(taker.weights.size for taker in first.inputs) * first.weight_bits
            depth = state_words(first, network, core)
            if network.deferred:
                # The weight; and in a flush, for each neuron, the count that it takes, and how far from its own that is.
                at_once = flush_columns(core, -(-first.channels // core.channels))
                visited = flushes * flush_steps(network, first, core) * core.channels * at_once
                word = first.potential_bits + 1 + first.count_bits
                additions += updates + 2 * visited
                additions_pj += updates * add_pj(first.potential_bits + 1) + 2 * visited * add_pj(first.count_bits)
                accesses = 2 * updates + (1 + written) * visited
            else:
                # The weight, the comparison with the threshold; the threshold and the count where it fired.
                additions += 2 * updates + 2 * fired
                additions_pj += (2 * updates + fired) * add_pj(first.potential_bits) + fired * add_pj(first.count_bits)
                accesses = 2 * updates
            state_words_used += accesses
            state_pj += accesses * memory_pj(word, depth * core.channels * word)
            weight_words += updates
            # Each bank of a convolution holds all of them.
            weights_pj += updates * memory_pj(first.weight_bits, weights)
        if isinstance(last, MaxPool):
            spikes = streams[last.source]
            members = last.window[0] * last.window[1]
            bits = count_bits(network, last.name)
            shape = network.shape_of(last.name)
            visited = flushes * shape.size
            # What a neuron of the same core fires in an update, or at a flush, comes at once.
            fused = isinstance(first, Neurons)
            taken = network.shape_of(last.source)
            visits = mean_visits(last, taken, np.bincount(spikes.address, minlength=taken.size).reshape(taken))
            touched = (_firings(spikes) if fused else len(spikes.address)) / frames * visits
            # After it, counts are told from the new maximum.
            compared = touched + visited * (members - 1 + written * members)
            additions += compared
            additions_pj += compared * add_pj(bits)
            accesses = 2 * touched + (1 + written) * visited
            state_words_used += accesses
            state_pj += accesses * memory_pj(members * bits, shape.size * members * bits)
        found.append(
            Energy(
                core=stage.name,
                additions=additions,
                state_words=state_words_used,
                weight_words=weight_words,
                hops=events,
                additions_nj=additions_pj / 1e3,
                state_nj=state_pj / 1e3,
                weights_nj=weights_pj / 1e3,
                hops_nj=events * HOP_PJ / 1e3,
            )
        )
    return tuple(found)


def _firings(spikes: Stream) -> int:
    """How often a neuron of a layer fires, however many spikes each time: these follow each other, and have one cause."""
    frame = np.repeat(np.arange(len(spikes.starts) - 1), np.diff(spikes.starts))
    follows = [np.diff(of) == 0 for of in (frame, spikes.cause, spikes.address)]
    return len(spikes.address) - int(np.logical_and.reduce(follows).sum())
