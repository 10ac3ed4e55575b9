"""The folded machine: one set of lanes that all layers share, event by event, for the smallest FPGAs.

The deepest layer that has an event takes it, and only when no layer has any the next one comes in. So what an event causes
has left the machine before the next event of its layer is taken: a buffer holds what one event can fire and no more, it can
never overflow, and no frame is too busy. Each layer takes its events in order, so that all fire what the golden model fires.

In a network that fires deferred, events only add up until the frame ends; then the layers are flushed, one after the other. A
spike of a flush is taken by the next layer at once, so that nothing waits and there are no queues.

Here is where everything lies: the states and weights of each layer, in block RAM or in a large memory with one port, as the
plan says. `hw.folded.machine` builds it, `model.machine.folded_cycles` counts its cycles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from model.machine.blocks import SB_RAM40_4K
from model.machine.folded_order import Action, Join, Service, orders
from model.machine.initial import InitialWords, initial_words
from model.machine.plan import CorePlan, Plan, PlanError
from model.machine.stages import Stage, kept_pixel_bits, more_bits, most_spikes, stages
from model.machine.stored_state import folded_state_bits
from model.network import INPUT, Layer, Linear, MaxPool, Network, Neurons, Shape
from model.projection import ConvolutionProjection, Projection

__all__ = [
    "FOLDED_LANES",
    "LEAST_PACKET",
    "MOST_QUEUED",
    "SINGLE_BITS",
    "SINGLE_WORDS",
    "WEIGHT_SLOT",
    "Fixed",
    "Folded",
    "FoldedInput",
    "FoldedLayer",
    "FoldedLink",
    "FoldedQueue",
    "TooManyWordsError",
]

SINGLE_BITS, SINGLE_WORDS = 64, 16384
"""Width and depth of the memory with one port: four SPRAMs of 16 bits and 16 K side by side (Lattice FPGA-TN-02022)."""

LEAST_PACKET = 64
"""Bytes that the longest packet of a host link has at least."""

WEIGHT_SLOT = 8
"""Bits that a weight takes in memory, whatever its width."""

FOLDED_LANES = (1, 2, 4, 8)
"""Lanes that a folded machine can have."""


MOST_QUEUED = 1 << 16
"""Events that may wait in all queues together."""


class TooManyWordsError(PlanError):
    """More words than the memory with one port has."""


@dataclass(frozen=True, kw_only=True)
class FoldedInput:
    """An input of a layer of neurons in a folded machine.

    Parameters
    ----------
    taker : Projection
        The projection.
    source : Shape
        Shape of what comes in.
    layer : int
        Number of the layer.
    lanes, blocks : int
        Of that layer.
    first_word : int
        Which of the layer's blocks of weights is its first.
    """

    taker: Projection
    source: Shape
    layer: int
    lanes: int
    blocks: int
    first_word: int

    @property
    def weight_words(self) -> int:
        """Blocks of weights."""
        return self.taker.weights.size // self.taker.channels * self.blocks

    def axis(self, axis: int) -> list[list[tuple[int, int]]]:
        """Of each input row (column) the output rows that it reaches, each with its tap as the weights in memory count."""
        reached = self.taker.taps(self.source, axis)
        if not isinstance(self.taker, ConvolutionProjection):
            return reached
        kernel = self.taker.kernel[axis]
        return [[(o, kernel - 1 - k) for o, k in pairs] for pairs in reached]

    def words(self, lanes: int) -> npt.NDArray[np.int32]:
        """Its weights as they lie in a memory for so many lanes, ``(weight_words, lanes)``: by input channel, row and column of
        the kernel from last to first, as the outputs go from first to last; of a linear input by address."""
        weights, channels = self.taker.weights, self.taker.channels
        if isinstance(self.taker, ConvolutionProjection):
            weights = weights[:, :, ::-1, ::-1]
        by_input = weights.reshape(channels, -1)
        padded = np.zeros((self.blocks * self.lanes, by_input.shape[1]), np.int32)
        padded[:channels] = by_input
        words = padded.reshape(self.blocks, self.lanes, -1).transpose(2, 0, 1).reshape(-1, self.lanes)
        return np.pad(words, ((0, 0), (0, lanes - self.lanes)))


@dataclass(frozen=True, kw_only=True)
class FoldedLayer:
    """A neuron layer, with the max-pool after it, in a folded machine.

    Parameters
    ----------
    layer, pool : Neurons, MaxPool or None
        The layers.
    inputs : tuple of FoldedInput
        Its inputs.
    output : Shape
        Shape of the neurons.
    leaving : Shape
        Shape of what goes out: ``output``, or that of the pool.
    lanes : int
        Neurons of it updated at once, a power of two.
    blocks : int
        Blocks of channels at a position, as many channels each as there are lanes.
    state_single, weight_single : bool
        Whether states, weights are in the memory with one port.
    state_base : int
        Address of its first state word, in the memory that has it.
    weight_base : int
        Address of its first block of weights; the memory with one port has several blocks in a word.
    tag_base : int
        Address of its first tag; it has one per position.
    initial : InitialWords
        What its neurons start a frame with.
    """

    layer: Neurons
    pool: MaxPool | None
    inputs: tuple[FoldedInput, ...]
    output: Shape
    leaving: Shape
    lanes: int
    blocks: int
    state_single: bool
    weight_single: bool
    state_base: int
    weight_base: int
    tag_base: int
    initial: InitialWords

    @property
    def positions(self) -> int:
        """Positions of the layer, and tags."""
        return self.output.height * self.output.width

    @property
    def state_words(self) -> int:
        """Words of states, each a block of channels."""
        return self.positions * self.blocks

    @property
    def weight_words(self) -> int:
        """Blocks of weights, of all inputs."""
        return sum(each.weight_words for each in self.inputs)

    @property
    def link(self) -> str:
        """Name of the link by which its events leave."""
        return (self.pool or self.layer).name

    @property
    def step_cycles(self) -> int:
        """Cycles from one block to the next: a memory with one port reads and writes by turns."""
        return 2 if self.state_single else 1

    def window(self, axis: int) -> list[tuple[int, int, int] | None]:
        """Of each row (column) of neurons: the pool's row that it is in, the first row in that window, and how many; or None."""
        if self.pool is None:
            return [None] * self.output[axis]
        size, reached = self.output[axis], self.pool.taps(self.output, axis)
        found: list[tuple[int, int, int] | None] = []
        for pairs in reached:
            inside = [at for at in range(size) if pairs and any(o == pairs[0][0] for o, _ in reached[at])]
            found.append((pairs[0][0], inside[0], len(inside)) if pairs else None)
        return found

    def windows(self, axis: int) -> list[tuple[int, int]]:
        """Of each row (column) of the max-pool the first row of neurons in its window, and how many; as of windows of one neuron
        where there is no pool."""
        if self.pool is None:
            return [(at, 1) for at in range(self.output[axis])]
        inside: list[list[int]] = [[] for _ in range(self.leaving[axis])]
        for at, pairs in enumerate(self.pool.taps(self.output, axis)):
            for window, _ in pairs:
                inside[window].append(at)
        return [(rows[0], len(rows)) for rows in inside]

    @property
    def flush_cycles(self) -> int:
        """Blocks that a flush reads, one a cycle: of all neurons and, where a max-pool follows, of its windows."""
        members = [sum(size for _, size in self.windows(axis)) for axis in (0, 1)] if self.pool else [0, 0]
        return (self.positions + members[0] * members[1]) * self.blocks

    def words(self, lanes: int) -> npt.NDArray[np.int32]:
        """The weights of all its inputs, one input after the other, as they lie in a memory for so many lanes."""
        return np.concatenate([each.words(lanes) for each in self.inputs])


@dataclass(frozen=True)
class FoldedQueue:
    """A queue of events, in the memory that has all of them.

    Parameters
    ----------
    base, depth : int
        Its first word, and how many it has.
    """

    base: int
    depth: int


@dataclass(frozen=True)
class FoldedLink:
    """A link of a machine that fires immediate: the network's input, or what leaves a layer.

    Parameters
    ----------
    services : tuple of Service
        What becomes of each of its events, in order; none where no input takes them.
    queue : FoldedQueue
        Where its events wait; of no words where none do. Of the network's input one at the most waits, in a register.
    """

    services: tuple[Service, ...]
    queue: FoldedQueue


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What no plan changes of a folded machine, so that many plans can be laid out in turn.

    Parameters
    ----------
    stages : tuple of Stage
        Its layers of neurons, each with the max-pool after it.
    initial : dict of str to InitialWords
        What the neurons of each start a frame with.
    links, kept, more_bits
        As of `Folded`.
    """

    stages: tuple[Stage, ...]
    initial: dict[str, InitialWords]
    links: tuple[FoldedLink, ...]
    kept: dict[int, FoldedQueue]
    more_bits: int

    @classmethod
    def of(cls, network: Network) -> "Fixed":
        """That of one network."""
        cores = stages(network)
        for stage in cores:
            if not isinstance(stage.layers[0], Neurons):
                raise PlanError(
                    f"layer {stage.layers[0].name!r}: a folded machine pools only after neurons that no other layer reads"
                )
        neurons = [layer for layer in network.layers if isinstance(layer, Neurons)]
        links, kept = ((), {}) if network.deferred else _queues(network, cores)
        return cls(
            stages=cores,
            initial={layer.name: initial_words(network, layer) for layer in neurons},
            links=links,
            kept=kept,
            more_bits=max(more_bits(network, layer.name) for layer in network.layers),
        )


@dataclass(frozen=True, kw_only=True)
class Folded:
    """A folded machine's layers and memories.

    Parameters
    ----------
    lanes : int
        Neurons updated at once.
    single_lanes : int
        As many at the most of a layer with states in the memory with one port.
    layers : tuple of FoldedLayer
        In order.
    state_depth, state_width : int
        Of the block RAM of states, all lanes in a word.
    weight_depth : int
        Blocks of weights in block RAM.
    tag_depth, generation_bits : int
        Of the tags.
    queue_depth, queue_width : int
        Of the memory with all queues.
    single_state_words, single_weight_words : int
        Words in the memory with one port; the states come first.
    frame_bytes, pixel_bits : int
        Bytes of a frame; bits of each pixel where the encoder keeps it.
    deferred : bool
        Whether the network fires deferred.
    more_bits : int
        Width of how many spikes a neuron, or a window of a max-pool, fires at once beyond its first.
    links : tuple of FoldedLink
        Where neurons fire immediate, the network's input, and what leaves each of ``layers``.
    kept : dict of int to FoldedQueue
        Of the numbers of inputs that keep events, where these wait.
    """

    lanes: int
    single_lanes: int
    layers: tuple[FoldedLayer, ...]
    state_depth: int
    state_width: int
    weight_depth: int
    tag_depth: int
    generation_bits: int
    queue_depth: int
    queue_width: int
    single_state_words: int
    single_weight_words: int
    frame_bytes: int
    pixel_bits: int
    deferred: bool
    more_bits: int
    links: tuple[FoldedLink, ...]
    kept: dict[int, FoldedQueue]

    @classmethod
    def of(cls, network: Network, plan: Plan, *, fixed: Fixed | None = None) -> "Folded":
        """Lay out ``network`` by ``plan``; ``fixed`` where it is known already.

        Raises
        ------
        PlanError
            It is not a network or a plan for a folded machine.
        """
        where = f"plan {plan.name!r}"
        lanes, generation_bits = plan.lanes, _generation_bits(plan)
        fixed = fixed or Fixed.of(network)
        layers: list[FoldedLayer] = []
        for stage in fixed.stages:
            layers.append(_placed(network, plan, fixed, stage, layers))
        if not isinstance(layers[-1].layer, Linear) or layers[-1].pool:
            raise PlanError(f"layer {network.output.name!r}: a folded machine must end in a linear layer")
        # States in the same memory have the same form.
        single_states, block_states = ([la.layer for la in layers if la.state_single is single] for single in (True, False))
        single_lanes = max((la.lanes for la in layers if la.state_single), default=0)
        single_bits, block_bits = (
            folded_state_bits(held, deferred=network.deferred) if held else 0 for held in (single_states, block_states)
        )
        if single_bits * single_lanes > SINGLE_BITS:
            names = ", ".join(repr(layer.name) for layer in single_states)
            raise PlanError(
                f"{where}: core {names}: {single_lanes} states of {single_bits} bits must be at most {SINGLE_BITS} bits to be in "
                "the memory with one port"
            )
        # Weights lie after the states.
        slots = _slots(lanes)
        single_state = sum(la.state_words for la in layers if la.state_single)
        layers = [replace(la, weight_base=la.weight_base + single_state * slots) if la.weight_single else la for la in layers]
        single_weight = sum(-(-la.weight_words // slots) for la in layers if la.weight_single)
        if single_state + single_weight > SINGLE_WORDS:
            raise TooManyWordsError(
                f"{where}: words in the memory with one port must be at most {SINGLE_WORDS}, not {single_state + single_weight}"
            )
        more = fixed.more_bits
        return cls(
            lanes=lanes,
            single_lanes=single_lanes,
            layers=tuple(layers),
            state_depth=sum(la.state_words for la in layers if not la.state_single),
            state_width=lanes * block_bits,
            weight_depth=sum(la.weight_words for la in layers if not la.weight_single),
            tag_depth=sum(la.positions for la in layers),
            generation_bits=generation_bits,
            frame_bytes=network.input_shape.size,
            pixel_bits=kept_pixel_bits(network),
            deferred=network.deferred,
            more_bits=more,
            links=fixed.links,
            kept=fixed.kept,
            queue_depth=sum(queue.depth for queue in (*(link.queue for link in fixed.links), *fixed.kept.values())),
            queue_width=max(
                (1 + more + sum(map(_bits, each.source)) for la in layers for each in la.inputs if each.taker.source != INPUT),
                default=0,
            ),
            single_state_words=single_state,
            single_weight_words=single_weight,
        )

    @cached_property
    def inputs(self) -> tuple[FoldedInput, ...]:
        """The inputs of all layers, in order."""
        return tuple(each for la in self.layers for each in la.inputs)

    def takers(self, link: str) -> tuple[int, ...]:
        """Numbers, within `inputs`, of those that take the events of a link."""
        return tuple(number for number, each in enumerate(self.inputs) if each.taker.source == link)

    @cached_property
    def further(self) -> dict[int, int]:
        """Of the numbers of inputs that share a link with a later one, that of the next such input."""
        links = {each.taker.source for each in self.inputs}
        return {number: after for link in links for number, after in pairwise(self.takers(link))}

    @cached_property
    def chain(self) -> bool:
        """Whether each layer takes the events of the one before, and of nothing else: then layers and inputs count alike."""
        links = (INPUT, *(la.link for la in self.layers[:-1]))
        return [each.taker.source for each in self.inputs] == list(links)

    @property
    def single_words(self) -> int:
        """Words of the memory with one port that are in use."""
        return self.single_state_words + self.single_weight_words

    @property
    def single_state_layers(self) -> int:
        """Layers whose states are in the memory with one port."""
        return sum(la.state_single for la in self.layers)

    @property
    def link_blocks(self) -> int:
        """Block RAMs of the iCE40 that the memories of link and encoder take: a packet and a frame."""
        packet = SB_RAM40_4K.needed(max(LEAST_PACKET, self.frame_bytes), 8)
        return packet + SB_RAM40_4K.needed(self.frame_bytes, self.pixel_bits)

    @property
    def blocks(self) -> int:
        """Block RAMs of the iCE40 that the machine's memories take."""
        return (
            SB_RAM40_4K.needed(self.state_depth, self.state_width)
            + SB_RAM40_4K.needed(self.weight_depth, self.lanes * WEIGHT_SLOT)
            + SB_RAM40_4K.needed(self.tag_depth, self.generation_bits)
            + SB_RAM40_4K.needed(self.queue_depth, self.queue_width)
        )

    def block_weights(self) -> list[int]:
        """Contents of the block RAM of weights, lowest lane in the lowest bits."""
        found = [_packed(la.words(self.lanes)) for la in self.layers if not la.weight_single]
        return [word for words in found for word in words]

    def single_weights(self) -> list[int]:
        """Contents of the memory with one port after its states: what has to be loaded, `SINGLE_BITS` a word."""
        slots, bits = _slots(self.lanes), WEIGHT_SLOT * self.lanes
        found = []
        for layer in self.layers:
            if layer.weight_single:
                words = _packed(layer.words(self.lanes))
                words += [0] * (-len(words) % slots)
                found += [
                    sum(word << bits * n for n, word in enumerate(words[at : at + slots])) for at in range(0, len(words), slots)
                ]
        return found


def _slots(lanes: int) -> int:
    """Blocks of weights in a word of the memory with one port."""
    return SINGLE_BITS // (WEIGHT_SLOT * lanes)


def _generation_bits(plan: Plan) -> int:
    """Those of all cores; `PlanError` where the plan as a whole is not one of a folded machine."""
    where = f"plan {plan.name!r}"
    if plan.lanes not in FOLDED_LANES:
        known = ", ".join(map(str, FOLDED_LANES))
        raise PlanError(f"{where}: channels of a folded machine must be one of {known}, not {plan.lanes}")
    if plan.inject:
        raise PlanError(f"{where}: inject must be false for a folded machine")
    generation_bits, *others = {core.generation_bits for core in plan.cores}
    if others:
        raise PlanError(f"{where}: generation_bits must be the same for all cores of a folded machine")
    return generation_bits


def _placed(network: Network, plan: Plan, fixed: Fixed, stage: Stage, placed: list[FoldedLayer]) -> FoldedLayer:
    """The layer of a stage, after those that are placed already; `PlanError` where a folded machine has no such layer."""
    layer, lanes = stage.layers[0], plan.lanes
    if not isinstance(layer, Neurons):
        raise TypeError(f"layer must be of neurons, not {layer!r}")
    if layer.weight_bits > WEIGHT_SLOT:
        raise PlanError(
            f"layer {layer.name!r}: weight_bits must be at most {WEIGHT_SLOT} in a folded machine, not {layer.weight_bits}"
        )
    core, output = _core(plan, network, layer.name, lanes), network.shape_of(layer.name)
    state_single, weight_single = core.state_memory == "single_port", core.weight_memory == "single_port"
    if state_single and weight_single:
        raise PlanError(
            f"plan {plan.name!r}: core {layer.name!r}: states and weights must not both be in the memory with one port"
        )
    # A word of the memory with one port begins with a layer's first block of weights.
    slots = _slots(lanes) if weight_single else 1
    used = 1 << (core.channels - 1).bit_length() if state_single else lanes
    blocks = -(-output.channels // used)
    return FoldedLayer(
        layer=layer,
        pool=stage.layers[1] if len(stage.layers) > 1 and isinstance(stage.layers[1], MaxPool) else None,
        inputs=_inputs(network, layer, len(placed), used, blocks),
        output=output,
        leaving=network.shape_of(stage.name),
        lanes=used,
        blocks=blocks,
        state_single=state_single,
        weight_single=weight_single,
        # The bases are those of their own kind of memory.
        state_base=sum(la.state_words for la in placed if la.state_single is state_single),
        weight_base=sum(-(-la.weight_words // slots) * slots for la in placed if la.weight_single is weight_single),
        tag_base=sum(la.positions for la in placed),
        initial=fixed.initial[layer.name],
    )


def _inputs(network: Network, layer: Neurons, number: int, lanes: int, blocks: int) -> tuple[FoldedInput, ...]:
    """The inputs of a layer of that number."""
    found: list[FoldedInput] = []
    for taker, shape, _ in network.inputs(layer):
        if not isinstance(taker, Projection):
            raise TypeError(f"{layer.label}: inputs must be projections, not {taker!r}")
        first = found[-1].first_word + found[-1].weight_words if found else 0
        found.append(FoldedInput(taker=taker, source=shape, layer=number, lanes=lanes, blocks=blocks, first_word=first))
    return tuple(found)


def _core(plan: Plan, network: Network, layer: str, lanes: int) -> CorePlan:
    core, channels = plan.core(layer), network.shape_of(layer).channels
    fewer = core.state_memory == "single_port" and core.channels < min(lanes, channels) and core.channels in FOLDED_LANES
    if (core.columns, core.rows) != (1, 1) or not (core.channels == min(lanes, channels) or fewer):
        raise PlanError(
            f"plan {plan.name!r}: core {layer!r}: channels, columns and rows must be {min(lanes, channels)}, 1 and 1 as all "
            f"layers of a folded machine share {lanes} lanes, not {core.channels}, {core.columns} and {core.rows}"
        )
    for name in ("state_memory", "tag_memory", "weight_memory"):
        if (memory := getattr(core, name)) in ("split", "mixed", "distributed"):
            raise PlanError(f"plan {plan.name!r}: core {layer!r}: {name} must not be {memory!r} in a folded machine")
    return core


def _queues(network: Network, cores: Sequence[Stage]) -> tuple[tuple[FoldedLink, ...], dict[int, FoldedQueue]]:
    """The links of a machine that fires immediate, and the queues of what inputs keep."""
    joins = [
        Join(taker.source, stage.layers[0].name, stage.name, place)
        for stage in cores
        for place, taker in enumerate(stage.layers[0].inputs)
    ]
    served = orders(network, joins)
    used, links, kept = 0, [FoldedLink(served[INPUT], FoldedQueue(0, 0))], {}
    for stage in cores:
        services = served.get(stage.name, ())
        # Every neuron that an event reaches fires at most: a word each.
        queue = FoldedQueue(used, max(1, *_reaches(network, stage.layers[0])) if services else 0)
        links.append(FoldedLink(services, queue))
        used += queue.depth
    for service in (service for services in served.values() for service in services):
        if service.action is Action.KEEP:
            join = joins[service.number]
            depth = _caused(network, cores, network.fork(join.layer), join.link)
            kept[service.number] = FoldedQueue(used, depth)
            used += depth
            if used > MOST_QUEUED:
                raise PlanError(
                    f"layer {join.layer!r}: its input from {join.link!r} keeps up to {depth} events until the inputs before it "
                    f"have come, and all queues of a folded machine must have at most {MOST_QUEUED}"
                )
    return tuple(links), kept


def _reaches(network: Network, layer: Layer) -> list[int]:
    """Of each input of a layer how many neurons an event of it reaches at the most."""
    found = []
    for taker, shape, _ in network.inputs(layer):
        rows, columns = (max(len(pairs) for pairs in taker.taps(shape, axis)) for axis in (0, 1))
        found.append(rows * columns * network.shape_of(layer.name).channels)
    return found


def _caused(network: Network, cores: Sequence[Stage], fork: str, link: str) -> int:
    """Events of a link that one event of the fork before it causes at the most."""
    caused = {fork: 1}
    for stage in cores:
        layer = stage.layers[0]
        if isinstance(layer, Neurons) and stage.name != fork and all(source in caused for source in layer.sources):
            pairs = zip(layer.sources, _reaches(network, layer), strict=True)
            caused[stage.name] = sum(caused[source] * reached for source, reached in pairs) * most_spikes(network, layer)
    return caused[link]


def _packed(words: npt.NDArray[np.int32]) -> list[int]:
    mask = (1 << WEIGHT_SLOT) - 1
    return [sum((int(weight) & mask) << WEIGHT_SLOT * lane for lane, weight in enumerate(word)) for word in words]


def _bits(size: int) -> int:
    return max(1, (size - 1).bit_length())
