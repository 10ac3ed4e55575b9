"""The memories of a folded machine: states and weights of all layers, in block RAM and in a large memory with one port."""

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.folded.deferred_lane import IntegratedState
from hw.folded.lane import SettledState
from hw.folded.layouts import Place, Step
from hw.folded.tags import Tags
from hw.folded.weight_check import WeightCheck
from hw.interface import WeightPort
from hw.parts.single_port import PARTS, SinglePort
from hw.parts.tables import scaled
from model.machine.folded_layout import SINGLE_BITS, SINGLE_WORDS, WEIGHT_SLOT, Folded, FoldedLayer

__all__ = ["BlockPort", "Memories", "stored_state"]


def stored_state(folded: Folded, layers: Sequence[FoldedLayer]) -> data.StructLayout:
    """What is stored of a neuron of any of ``layers``: `SettledState`; where neurons fire deferred, only the residual of
    `IntegratedState`, as their counts are those of the start of the frame."""
    neurons = [la.layer for la in layers]
    if folded.deferred:
        return data.StructLayout({"summed": IntegratedState(*neurons)["summed"].shape})
    return SettledState(*neurons)


class BlockPort(wiring.Signature):
    """How blocks of neurons are read and written, as who does it sees it.

    Parameters
    ----------
    folded : Folded
        the machine's layers and memories

    Members
    -------
    y, x, block : Out, unsigned
        the block that is read, and whose place is asked for
    weight : Out, unsigned
        address of the weights that are read
    place : In, Place
        where that block lies, in the same cycle
    states : In, array of what is stored (`stored_state`)
        a cycle later, its states: of each lane
    stale : In, 1 bit
        a cycle later, 1 where they are of another frame: then those after reset hold
    weights : In, array of WEIGHT_SLOT bits
        a cycle later, of each lane the weight
    write : Out, 1 bit
        ``write_states`` are written to ``write_place``; where its states are in the memory with one port, no other block of that
        layer is read in this cycle
    write_place : Out, Place
    write_states : Out, array of what is stored (`stored_state`)
    completes : Out, 1 bit
        with ``write``: all blocks of the position are written now
    """

    def __init__(self, folded: Folded) -> None:
        step, place = Step(folded), Place(folded)
        states = data.ArrayLayout(stored_state(folded, folded.layers), folded.lanes)
        super().__init__(
            {
                **{name: Out(step[name].shape) for name in ("y", "x", "block", "weight")},
                "place": In(place),
                "states": In(states),
                "stale": In(1),
                "weights": In(data.ArrayLayout(WEIGHT_SLOT, folded.lanes)),
                "write": Out(1),
                "write_place": Out(place),
                "write_states": Out(states),
                "completes": Out(1),
            }
        )


class Memories(wiring.Component):
    """States, weights and tags, where `model.machine.folded_layout.Folded` says that they lie.

    Operation
    ---------
    The memory with one port has states of some layers and weights of others; what of it the layer in use needs has the port. What
    it holds after power-up is not known: its weights are loaded, and then checked.

    Timing
    ------
    Of `BlockPort`: a block per cycle, read and written at once; with states in the memory with one port, read or written.

    Parameters
    ----------
    folded : Folded
        what lies where

    Members
    -------
    layer : In, range(layers)
        number of the layer in use
    port : In, BlockPort
    one_port : Out, 1 bit
        whether its states are in the memory with one port
    next_frame, sweep : In, 1 bit
        as of `hw.folded.tags.Tags`
    wraps, swept : Out, 1 bit
        as of `hw.folded.tags.Tags`
    weights : In, WeightPort
        where there are weights in the memory with one port, like all that follows
    idle : In, 1 bit
        what ``weights.idle`` is
    check : In, 1 bit
        the weights are checked from the next cycle on, during which nothing else is read
    checked : Out, 1 bit
        1 where that is done; ``weights.loaded`` follows
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        members: dict[str, In | Out] = {
            "layer": In(range(max(2, len(folded.layers)))),
            "port": In(BlockPort(folded)),
            "one_port": Out(1),
            "next_frame": In(1),
            "wraps": Out(1),
            "sweep": In(1),
            "swept": Out(1),
        }
        if folded.single_weight_words:
            members |= {"weights": In(WeightPort()), "idle": In(1), "check": In(1), "checked": Out(1)}
        super().__init__(members)

    @property
    def folded(self) -> Folded:
        """What lies where."""
        return self._folded

    def elaborate(self, platform: object) -> Module:
        m = Module()
        folded, port = self._folded, self.port
        m.submodules.tags = tags = Tags(folded=folded)
        m.d.comb += [
            tags.addr.eq(port.place.tag),
            port.stale.eq(tags.stale),
            tags.mark.eq(port.write & port.completes),
            tags.mark_addr.eq(port.write_place.tag),
            tags.next_frame.eq(self.next_frame),
            self.wraps.eq(tags.wraps),
            tags.sweep.eq(self.sweep),
            self.swept.eq(tags.swept),
        ]
        spram_state_addr, weights_in_spram = self._locate(m)
        if folded.state_depth:
            self._block_ram_of_states(m)
        block_weights: Value = Const(0, WEIGHT_SLOT * folded.lanes)
        if folded.weight_depth:
            block_weights = self._block_ram_of_weights(m)
        if not folded.single_words:
            m.d.comb += port.weights.eq(block_weights)
            return m
        spram_weights = self._spram(m, spram_state_addr)
        m.d.comb += port.weights.eq(Mux(weights_in_spram, spram_weights, block_weights))
        return m

    def _locate(self, m: Module) -> tuple[Value, Value]:
        """Where the block that is read lies: gives its address in the memory with one port, which may be of no use, and whether
        the weights of the layer in use are there."""
        folded, port = self._folded, self.port
        spram_state_addr, weights_in_spram = Signal(range(SINGLE_WORDS)), Signal()
        for number, la in enumerate(folded.layers):
            position = scaled(port.y, la.output.width) + port.x
            state = la.state_base + _block_at(position, la.blocks, port.block)
            with m.If(self.layer == number):
                m.d.comb += [
                    port.place.tag.eq(la.tag_base + position),
                    port.place.state.eq(state),
                    self.one_port.eq(int(la.state_single)),
                    weights_in_spram.eq(int(la.weight_single)),
                ]
            if la.state_single:
                # Nothing but the layers that have states there is on the way to that memory, which is the longest.
                with m.If((self.layer == number) if folded.single_state_layers > 1 else Const(1)):
                    m.d.comb += spram_state_addr.eq(state)
        return spram_state_addr, weights_in_spram

    def _block_ram_of_states(self, m: Module) -> None:
        folded, port = self._folded, self.port
        # States in the same memory have the same form, those in the lanes that of all layers.
        form = stored_state(folded, [la for la in folded.layers if not la.state_single])
        m.submodules.states = states = Memory(
            shape=unsigned(folded.state_width),
            depth=folded.state_depth,
            init=[],
            # No word is read while it is written: Yosys need not build what would make that well defined.
            attrs={"no_rw_check": 1, "ram_style": "block"},
        )
        read, write = states.read_port(), states.write_port()
        m.d.comb += [
            read.addr.eq(port.place.state),
            write.en.eq(port.write & ~self.one_port),
            write.addr.eq(port.write_place.state),
        ]
        for lane in range(folded.lanes):
            stored = form(read.data.word_select(lane, form.size))
            _convert(m, of=stored, to=port.states[lane])
            _convert(m, of=port.write_states[lane], to=form(write.data.word_select(lane, form.size)))

    def _block_ram_of_weights(self, m: Module) -> Value:
        """Gives the weights that are read."""
        m.submodules.weights = weights = Memory(
            shape=unsigned(WEIGHT_SLOT * self._folded.lanes),
            depth=self._folded.weight_depth,
            init=self._folded.block_weights(),
            attrs={"ram_style": "block"},
        )
        read = weights.read_port()
        m.d.comb += read.addr.eq(self.port.weight)
        return read.data

    def _spram(self, m: Module, state_addr: Value) -> Value:
        """The memory with one port; gives the weights that are read from it."""
        folded, port = self._folded, self.port
        m.submodules.spram = spram = SinglePort()

        # A block of weights is a part of a word.
        slots = SINGLE_BITS // (WEIGHT_SLOT * folded.lanes)
        slot_bits = slots.bit_length() - 1
        slot = Signal(max(1, slot_bits))
        m.d.sync += slot.eq(port.weight[:slot_bits])

        # States are read where nothing else needs the port.
        reads_state, spram_alt_addr = Signal(), Signal(range(SINGLE_WORDS))
        m.d.comb += [
            reads_state.eq(self.one_port & ~port.write),
            spram_alt_addr.eq(Mux(self.one_port, port.write_place.state, port.weight >> slot_bits)),
            spram.addr.eq(Mux(reads_state, state_addr, spram_alt_addr)),
            spram.write_en.eq((port.write & self.one_port).replicate(PARTS)),
        ]
        if folded.single_state_words:
            form = stored_state(folded, [la for la in folded.layers if la.state_single])
            share = SINGLE_BITS // folded.single_lanes
            for lane in range(folded.lanes):
                # A lane that a layer does not use has a state of 0 and weights of 0: it never fires.
                with m.If(self.one_port):
                    m.d.comb += port.states[lane].eq(0)
                    if lane < folded.single_lanes:
                        _convert(m, of=form(spram.read_data.word_select(lane, share)[: form.size]), to=port.states[lane])
                if lane < folded.single_lanes:
                    _convert(m, of=port.write_states[lane], to=form(spram.write_data.word_select(lane, share)[: form.size]))
        if folded.single_weight_words:
            self._load(m, spram, reads_state, spram_alt_addr)
        return Array(spram.read_data.word_select(n, WEIGHT_SLOT * folded.lanes) for n in range(slots))[slot]

    def _load(self, m: Module, spram: SinglePort, reads_state: Signal, spram_alt_addr: Signal) -> None:
        """Weights are written into the memory with one port, and checked there."""
        m.submodules.weight_check = check = WeightCheck(folded=self._folded)
        m.d.comb += [
            check.start.eq(self.check),
            check.data.eq(spram.read_data),
            self.checked.eq(check.done),
            self.weights.found.eq(check.found),
            self.weights.idle.eq(self.idle),
        ]
        with m.If(check.reads):
            m.d.comb += [reads_state.eq(0), spram_alt_addr.eq(check.addr)]
        with m.If(check.done):
            m.d.sync += self.weights.loaded.eq(check.right)
        with m.If(self.weights.en):
            m.d.comb += [
                reads_state.eq(0),
                spram_alt_addr.eq(self.weights.addr),
                spram.write_data.eq(self.weights.data.replicate(PARTS)),
                spram.write_en.eq(1 << self.weights.part),
            ]
            m.d.sync += self.weights.loaded.eq(0)


def _block_at(position: Value, blocks: int, block: Value) -> Value:
    """Number of a block at a position, where each has so many."""
    if blocks & blocks - 1 == 0:
        return Cat(block[: (blocks - 1).bit_length()], position)
    return scaled(position, blocks) + block


def _convert(m: Module, *, of: data.View, to: data.View) -> None:
    """The same state in the form of other layers."""
    m.d.comb += [to[name].eq(of[name]) for name in to.shape().members]
