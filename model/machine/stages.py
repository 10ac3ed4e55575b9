"""What a machine is made of for a network: its cores and links, before any plan says how large they are."""

from dataclasses import dataclass, replace

import numpy as np

from model.machine.plan import CorePlan, Plan
from model.network import INPUT, Layer, MaxPool, Network, Neurons
from model.projection import ConvolutionProjection, Projection, Shape, TransposedProjection
from model.rest import first_states

__all__ = [
    "INPUT_COUNT_BITS",
    "Stage",
    "blocks_reached",
    "blocks_visited",
    "core_plan",
    "count_bits",
    "counts_members",
    "fan_outs",
    "firing_core",
    "flush_columns",
    "flush_steps",
    "grouped",
    "kept_pixel_bits",
    "more_bits",
    "most_spikes",
    "one_block",
    "pooled_at_flushes",
    "ports",
    "refused_by_hardware",
    "shares_flush",
    "stages",
    "widest_step",
]

INPUT_COUNT_BITS = 8
"""Width of the counts of the input's pixels, for a max-pool that reads them. A frame fires a pixel 255 times at most, once a
level; a list of events may do so more often, but the counts of a window must not part by more than this holds."""


@dataclass(frozen=True)
class Stage:
    """One core of the machine: the layers between two links.

    Parameters
    ----------
    layers : tuple of Layer
        A neuron layer, a neuron layer with the max-pool that is fused to it, or a max-pool alone.
    """

    layers: tuple[Layer, ...]

    @property
    def name(self) -> str:
        """Name of the link that leaves the stage: that of its last layer."""
        return self.layers[-1].name

    @property
    def source(self) -> str:
        """Name of the link that enters it; of several that of the first input."""
        return self.layers[0].source

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the links that enter it, one for each input of its first layer."""
        return self.layers[0].sources


def stages(network: Network) -> tuple[Stage, ...]:
    """The cores of ``network``: a max-pool is fused to the neuron layer that it alone reads.

    Not one whose windows overlap where neurons fire at once: all that a spike moves comes before what the next one does, so that
    it takes spikes one at a time, as a link brings them.
    """
    found, fused = [], set()
    for layer in network.layers:
        if layer.name in fused:
            continue
        readers = network.readers(layer.name)
        alone = readers[0] if len(readers) == 1 else None
        if isinstance(layer, Neurons) and isinstance(alone, MaxPool) and (network.deferred or not alone.overlapping):
            fused.add(alone.name)
            found.append(Stage((layer, alone)))
        else:
            found.append(Stage((layer,)))
    return tuple(found)


def pooled_at_flushes(network: Network) -> frozenset[str]:
    """The layers of neurons whose core has a max-pool that fires at flushes."""
    cores = stages(network) if network.deferred else ()
    return frozenset(core.layers[0].name for core in cores if len(core.layers) > 1)


def core_plan(network: Network, plan: Plan, stage: Stage) -> CorePlan:
    """The plan of a stage's core: that of its neurons; a max-pool alone takes all channels of a position at once."""
    first = stage.layers[0]
    if isinstance(first, Neurons):
        return plan.core(first.name)
    return CorePlan(layer=first.name, channels=network.shape_of(stage.source).channels)


def ports(network: Network) -> dict[str, int]:
    """The links by name with the port that stands for each: 0 is the network's input, ``i + 1`` layer ``i``'s output.

    A layer with a fused max-pool has no link of its own.
    """
    names = [layer.name for layer in network.layers]
    return {INPUT: 0, **{stage.name: names.index(stage.name) + 1 for stage in stages(network)}}


def count_bits(network: Network, name: str) -> int:
    """Width of the spike counts of layer ``name``; a max-pool's are its source's."""
    layer = network.layer(name)
    while isinstance(layer, MaxPool):
        if layer.source == INPUT:
            return INPUT_COUNT_BITS
        layer = network.layer(layer.source)
    if not isinstance(layer, Neurons):
        raise TypeError(f"layer must be of neurons or a max-pool, not {type(layer).__name__}")
    return layer.count_bits


def kept_pixel_bits(network: Network) -> int:
    """Width of a pixel where frames are scanned for the next one to fire: its value, and how often it has fired.

    That need not be known where a pixel is dark, and so can fire no more, before it has fired at all levels.
    """
    levels = network.input_levels
    counted = network.input_threshold + levels * network.input_step < 255
    return 8 + ((levels - 1).bit_length() if counted else 0)


def more_bits(network: Network, name: str) -> int:
    """Width of how many spikes layer ``name`` fires of one neuron at once, beyond the first; 0 where it fires one at most."""
    layer = network.layer(name)
    if isinstance(layer, Neurons):
        return (most_spikes(network, layer) - 1).bit_length()
    if network.deferred:
        # The count of a window moves as far as those of its source do; it may start at any of them.
        return count_bits(network, name)
    # A window's maximum moves no further than the count of a member: several spikes come at once of a layer in the same core.
    fused = any(stage.name == name and len(stage.layers) > 1 for stage in stages(network))
    return more_bits(network, layer.source) if fused else 0


def counts_members(network: Network, stage: Stage) -> bool:
    """Whether the max-pool of a stage keeps counts, as several spikes may come at once, and not distances."""
    return network.deferred or (len(stage.layers) > 1 and more_bits(network, stage.layers[-2].name) > 0)


def most_spikes(network: Network, layer: Neurons) -> int:
    """The most spikes that a neuron of ``layer`` fires at once, from what it starts with and whatever events come."""
    least, most = layer.count_limits
    if network.deferred:
        # At a flush a count goes to wherever its limits, and the residual, let it.
        return min(most - least, (1 << layer.potential_bits - layer.threshold_log2) + layer.halves_to_even)
    burst = layer.burst or most - least
    # Where no burst ends too early, an update leaves less than a threshold in the residual, or nothing to fire that way; and a
    # frame may start with more.
    start = first_states(network)[layer.name]
    residual = start.potential - start.count * layer.theta
    fires = np.where(residual < 0, start.count > least, start.count < most)
    before = max(layer.theta - 1, int(np.abs(residual[fires]).max(initial=0)))
    after = min(before + max(int(np.abs(each.weights).max()) for each in layer.inputs), 1 << layer.potential_bits - 1)
    return min(burst, most - least, max(1, after >> layer.threshold_log2))


def refused_by_hardware(layer: Layer, *, folded: bool = False) -> tuple[str, str] | None:
    """Why there is no hardware for ``layer``, whatever its network, and what could be done; None where there is.

    Parameters
    ----------
    layer : Layer
        What is to be built.
    folded : bool
        Whether as a folded machine; a pipeline refuses no layer.
    """
    if not folded:
        return None
    if isinstance(layer, MaxPool) and layer.overlapping:
        return (
            f"max-pooling with window {layer.window} and stride {layer.stride} overlaps, which no folded machine walks",
            "build it with a plan of a pipeline",
        )
    for each in layer.inputs:
        if isinstance(each, TransposedProjection):
            return "a transposed convolution is walked by no folded machine", "build it with a plan of a pipeline"
        if isinstance(each, ConvolutionProjection) and each.groups > 1:
            return (
                f"a convolution of {each.groups} groups is walked by no folded machine as such",
                "build it with a plan of a pipeline, or convert with --ungroup, which writes it as an ordinary one",
            )
    return None


def grouped(layer: Layer) -> bool:
    """Whether an event of any input of ``layer`` reaches some of its channels only."""
    return any(isinstance(each, ConvolutionProjection) and each.groups > 1 for each in layer.inputs)


def blocks_reached(taker: Projection, shape: Shape, core: CorePlan) -> list[range]:
    """Of each channel of an input of ``shape``, the blocks of channels of ``core`` that its events visit at each position."""
    reached = [taker.channels_of(c) for c in range(shape.channels)]
    return [range(found.start // core.channels, -(-found.stop // core.channels)) for found in reached]


def blocks_visited(network: Network, core: CorePlan) -> list[list[range]]:
    """`blocks_reached` of each input of the layer of ``core``."""
    inputs = [each for each in network.layer(core.layer).inputs if isinstance(each, Projection)]
    return [blocks_reached(each, network.shape_of(each.source), core) for each in inputs]


def one_block(network: Network, core: CorePlan) -> bool:
    """Whether each event visits one block of channels at each position: then positions may be updated at once."""
    return all(len(blocks) == 1 for each in blocks_visited(network, core) for blocks in each)


def flush_columns(core: CorePlan, blocks: int) -> int:
    """Columns that a step of a flush takes: one where there are several blocks, as all channels of a position come first."""
    return 1 if blocks > 1 else core.columns


def firing_core(core: CorePlan, blocks: int) -> CorePlan:
    """Parallelism of a step of a flush, of what it takes of a core: a row, and so many columns."""
    return replace(core, rows=1, columns=flush_columns(core, blocks))


def shares_flush(network: Network, layer: Layer, core: CorePlan) -> bool:
    """Whether banks of a core share the lanes of a flush: where neurons fire at the end of the frame only."""
    if not network.deferred or network.flush_events or isinstance(layer, MaxPool):
        return False
    return firing_core(core, -(-network.shape_of(layer.name).channels // core.channels)) != core


def flush_steps(network: Network, layer: Layer, core: CorePlan) -> int:
    """Steps of a flush, as the end of a frame is one: none in a network that fires at once."""
    if not network.deferred:
        return 0
    height, width, channels = network.shape_of(layer.name)
    if isinstance(layer, MaxPool):
        return height * width * len(core.firsts(channels))
    blocks = -(-channels // core.channels)
    return height * -(-width // flush_columns(core, blocks)) * blocks


def fan_outs(network: Network, name: str) -> list[tuple[list[int], list[int]]]:
    """Of each input of layer ``name`` how many output rows each of its rows reaches, and the same for columns."""
    found = []
    for taker, shape, _ in network.inputs(network.layer(name)):
        rows, columns = ([len(pairs) for pairs in taker.taps(shape, axis)] for axis in (0, 1))
        found.append((rows, columns))
    return found


def widest_step(network: Network, name: str) -> tuple[int, int, int]:
    """Channels, columns and rows of layer ``name`` that one event reaches at the most: what can be updated at once."""
    most = [max(1, *(reached for each in fan_outs(network, name) for reached in each[axis]), 0) for axis in (0, 1)]
    return network.shape_of(name).channels, most[1], most[0]
