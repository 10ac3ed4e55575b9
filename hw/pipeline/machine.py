"""The machine: a network's cores, the router between them, and the readout."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring

from hw.aer import AddressEvent, HostEvent
from hw.interface import PASSES_WIDTH, Trace, known_place, machine_members
from hw.parts.background_check import PassCounter
from hw.parts.buffer import StreamBuffer
from hw.parts.memory import BuiltMemory, placed
from hw.pipeline.core import LayerCore
from hw.pipeline.flush_inserter import FlushInserter
from hw.pipeline.readout import Readout
from hw.pipeline.router import Router
from hw.pipeline.state_probe import QUIET_CYCLES
from model.machine.barriers import carried
from model.machine.checks import check_plan
from model.machine.plan import Plan
from model.machine.stages import ports, stages
from model.network import Network, Neurons

__all__ = ["Machine"]


class Machine(wiring.Component):
    """A network in hardware, a core a layer.

    Operation
    ---------
    Frames of events in, an answer a frame out. Frames may follow each other without a gap, and several are under way
    at once. The cores are linked by the `Router`. Where the network asks for flushes within a frame, they are put among the
    input's events at the door (`FlushInserter`).

    Timing
    ------
    Frames leave at the pace of the slowest core; a frame's latency is in its `Result`.

    Parameters
    ----------
    network, plan : what to build, and how much of it

    Members
    -------
    host : In stream, `HostEvent`: the frames
    result : Out stream, `Result`
    watched : Out stream, `HostEvent`: copies of what passes on the watched links, where ``plan.watch``
    watch : In, mask of watched ports, where ``plan.watch``
    saturations : Out, of each neuron layer, input events in which something saturated, since reset
    states : In `StatePort`, where ``plan.states``
    weight_passes, weights_differ : Out, as of `hw.interface.machine_members`, where ``plan.weight_check``
    """

    def __init__(self, *, network: Network, plan: Plan) -> None:
        check_plan(network, plan)
        self._network = network
        self._plan = plan
        self._cores = {
            stage.name: LayerCore(network=network, stage=stage, plan=plan) for stage in stages(network)
        }
        self._neuron_layers = tuple(layer.name for layer in network.layers if isinstance(layer, Neurons))
        super().__init__(machine_members(network, plan))

    @property
    def network(self) -> Network:
        """The network that is built."""
        return self._network

    @property
    def plan(self) -> Plan:
        """The plan by which it is built."""
        return self._plan

    @property
    def memories(self) -> tuple[BuiltMemory, ...]:
        """Those of its cores, of its router and of its readout."""
        built = [placed(f"core_{name}", core.memories) for name, core in self._cores.items()]
        built.append(placed("router", Router(network=self._network, plan=self._plan).memories))
        built.append(placed("readout", Readout(network=self._network).memories))
        return tuple(memory for memories in built for memory in memories)

    @property
    def traces(self) -> tuple[Trace, ...]:
        """The traces: the spikes of every layer as groups, and the events of every link."""
        found = []
        for core in self._cores.values():
            for layer, groups in core.groups.items():
                found.append(Trace(f"groups_{layer}", layer, "groups", groups.payload.shape()))
        levels = {name: len(forks) for name, forks in carried(self._network).items()}
        for name in ports(self._network):
            layout = AddressEvent(self._network.shape_of(name), levels[name])
            found.append(Trace(f"events_{name}", name, "events", layout))
        return tuple(found)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.router = router = Router(network=self._network, plan=self._plan)
        m.submodules.readout = readout = Readout(network=self._network, clips=self._plan.inject)
        m.submodules.door = door = StreamBuffer(payload=HostEvent(self._network))
        wiring.connect(m, wiring.flipped(self.host), door.taken)
        if self._network.flush_events:
            m.submodules.flushes = flushes = FlushInserter(network=self._network)
            wiring.connect(m, door.given, flushes.host)
            wiring.connect(m, flushes.flushed, router.host)
        else:
            wiring.connect(m, door.given, router.host)
        wiring.connect(m, router.spikes, readout.spikes)
        wiring.connect(m, readout.result, wiring.flipped(self.result))
        m.d.comb += [readout.started.eq(router.started), router.room.eq(readout.room)]
        if self._plan.watch:
            wiring.connect(m, router.watched, wiring.flipped(self.watched))
            m.d.comb += router.watch.eq(self.watch)
        seen = {f"events_{name}": link for name, link in router.links.items()}
        for name, core in self._cores.items():
            m.submodules[f"core_{name}"] = core
            for reader, events in zip(router.readers(core.stage), core.inputs, strict=True):
                wiring.connect(m, reader, events)
            wiring.connect(m, core.spikes, getattr(router, f"from_{name}"))
            seen |= {f"groups_{layer}": groups for layer, groups in core.groups.items()}
            if isinstance(core.stage.layers[0], Neurons):
                count = self.saturations[self._neuron_layers.index(core.stage.layers[0].name)]
                with m.If(core.saturated & ~count.all()):
                    m.d.sync += count.eq(count + 1)
        if self._plan.states:
            entering = router.host if self._network.flush_events else door.given
            self._read_states(m, entering.valid | self.host.valid)
        if self._plan.weight_check:
            self._check_weights(m)
        for trace in self.traces:
            strobe = Signal(name=f"trace_{trace.name}_strobe")
            payload = Signal(trace.layout, name=f"trace_{trace.name}_payload")
            m.d.comb += [
                strobe.eq(seen[trace.name].valid & seen[trace.name].ready),
                payload.eq(seen[trace.name].payload),
            ]
        return m

    def _check_weights(self, m: Module) -> None:
        """What the cores find of their weights."""
        cores = [core for core in self._cores.values() if isinstance(core.stage.layers[0], Neurons)]
        m.submodules.pass_counter = counter = PassCounter(checks=len(cores), width=PASSES_WIDTH)
        m.d.comb += [
            counter.passed.eq(Cat(core.weights_passed for core in cores)),
            self.weight_passes.eq(counter.passes),
            self.weights_differ.eq(Cat(core.weights_differ for core in cores)),
        ]

    def _read_states(self, m: Module, entering: Value) -> None:
        """States for the host, once the machine has been at rest for a while."""
        port, network = self.states, self._network
        busy = [entering, *(core.busy for core in self._cores.values())]
        if self._plan.watch:
            busy.append(self.watched.valid)
        asked, resting, quiet = Signal(), Signal(), Signal(range(2 * QUIET_CYCLES + 1))
        # So long until it surely rests, and as long again for the read.
        m.d.sync += [
            asked.eq(port.ask),
            resting.eq(asked & (quiet >= QUIET_CYCLES)),
            quiet.eq(Mux(quiet == 2 * QUIET_CYCLES, quiet, quiet + 1)),
        ]
        with m.If(~asked | Cat(busy).any()):
            m.d.sync += quiet.eq(0)
        m.d.comb += port.found.eq(port.ask & (quiet == 2 * QUIET_CYCLES))
        known = []
        for core in self._cores.values():
            layer = core.stage.layers[0]
            if not isinstance(layer, Neurons):
                continue
            known.append(known_place(network, layer, port.place))
            m.d.comb += [
                core.ask.eq(resting),
                *(core.place[name].eq(port.place[name]) for name in ("y", "x", "c")),
            ]
            with m.If(port.place.port == network.layers.index(layer) + 1):
                m.d.comb += [port.state[name].eq(core.state[name]) for name, _ in core.state.shape()]
        m.d.comb += port.known.eq(Cat(known).any())
