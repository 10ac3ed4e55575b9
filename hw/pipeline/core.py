"""One stage of the pipeline: from the events of one link to the events of the next."""

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, SpikeGroup
from hw.neuron import DeferredState, NeuronState
from hw.parts.buffer import StreamBuffer
from hw.parts.memory import DISTRIBUTED, BuiltMemory, placed
from hw.pipeline.groups import EventGrouper, GroupSelector
from hw.pipeline.pool import MaxPoolGroups
from hw.pipeline.projection import ProjectionCore
from hw.pipeline.serializer import Serializer
from model.machine.plan import Plan
from model.machine.stages import Stage, core_plan, count_bits, more_bits
from model.network import MaxPool, Network, Neurons
from model.rest import first_states

__all__ = ["LayerCore"]


class LayerCore(wiring.Component):
    """A neuron layer, a neuron layer with its max-pool, or a max-pool alone.

    Operation
    ---------
    Projection core (or events as they come), one group of spikes at a time, max-pool on groups, one event per cycle, and a FIFO.
    Input and output are a `StreamBuffer` each: no combinational path runs from one core through the router to another.

    Timing
    ------
    That of its parts, one after the other.

    Parameters
    ----------
    network : Network
        Gives the shapes.
    stage : Stage
        The layers.
    plan : Plan
        Parallelism and FIFO depths.

    Members
    -------
    events : In, stream of AddressEvent
        Of the source.
    spikes : Out, stream of AddressEvent
        Of the last layer.
    saturated : Out
        As of `ProjectionCore`.
    busy : Out
        1 where something is on its way, but for what the selector, the pool and the serializer just have in hand; where the plan
        has ``states``.
    ask, place, state
        As of `ProjectionCore`; where the plan has ``states``, and the stage neurons.
    """

    def __init__(self, *, network: Network, stage: Stage, plan: Plan) -> None:
        self._network = network
        self._stage = stage
        first, flushes = stage.layers[0], network.flush_events > 0
        self._core = core_plan(network, plan, stage)
        self._flushes = flushes
        self.groups = {
            layer.name: stream.Signature(
                SpikeGroup(network.shape_of(layer.name), self._core, more_bits(network, layer.name), flushes=flushes)
            ).create(path=("groups", layer.name))
            for layer in stage.layers
        }
        self._states = plan.states
        members: dict[str, In | Out] = {
            "events": In(stream.Signature(AddressEvent(network.shape_of(stage.source)))),
            "spikes": Out(stream.Signature(AddressEvent(network.shape_of(stage.name)))),
            "saturated": Out(1),
        }
        if plan.states:
            members["busy"] = Out(1)
            if isinstance(first, Neurons):
                place = AddressEvent(network.shape_of(first.name))
                state = (DeferredState if network.deferred else NeuronState)(first)
                members |= {"ask": In(1), "place": In(place), "state": Out(state)}
        super().__init__(members)

    @property
    def stage(self) -> Stage:
        """The layers that are built."""
        return self._stage

    @property
    def memories(self) -> tuple[BuiltMemory, ...]:
        """Those of its projection and of its pool, where there are, and the FIFO of events."""
        projection, pool = self._projection(), self._pool()
        width, depth = AddressEvent(self._network.shape_of(self._stage.name)).size, self._core.event_fifo
        return (
            *(placed("projection", projection.memories) if projection else ()),
            *(placed("pool", pool.memories) if pool else ()),
            BuiltMemory(name="fifo", width=width, depth=depth, kind=DISTRIBUTED),
        )

    def _projection(self) -> ProjectionCore | None:
        network, first = self._network, self._stage.layers[0]
        if not isinstance(first, Neurons):
            return None
        return ProjectionCore(
            layer=first,
            source=network.shape_of(self._stage.source),
            core=self._core,
            states=self._states,
            deferred=network.deferred,
            more_bits=more_bits(network, first.name),
            flushes=self._flushes,
            start=first_states(network)[first.name],
        )

    def _pool(self) -> MaxPoolGroups | None:
        network, last = self._network, self._stage.layers[-1]
        if not isinstance(last, MaxPool):
            return None
        return MaxPoolGroups(
            layer=last,
            shape=network.shape_of(last.source),
            core=self._core,
            count_bits=count_bits(network, last.name),
            deferred=network.deferred,
            # What comes over a link is one spike after the other.
            source_more_bits=more_bits(network, last.source) if len(self._stage.layers) > 1 else 0,
            more_bits=more_bits(network, last.name),
            flushes=self._flushes,
            start=first_states(network)[last.name],
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        network, core = self._network, self._core
        projection, pool = self._projection(), self._pool()
        first, last = self._stage.layers[0], self._stage.layers[-1]
        source = network.shape_of(self._stage.source)
        m.submodules.input = taken = StreamBuffer(payload=AddressEvent(source))
        wiring.connect(m, wiring.flipped(self.events), taken.taken)
        seen: list[Value] = [taken.given.valid]
        if projection:
            m.submodules.projection = projection
            m.submodules.selector = selector = GroupSelector(
                shape=network.shape_of(first.name),
                core=core,
                more_bits=more_bits(network, first.name),
                flushes=self._flushes,
            )
            wiring.connect(m, taken.given, projection.events)
            wiring.connect(m, projection.groups, selector.steps)
            m.d.comb += self.saturated.eq(projection.saturated)
            if self._states:
                m.d.comb += [
                    projection.ask.eq(self.ask), projection.place.eq(self.place), self.state.eq(projection.state)
                ]
                seen.append(projection.busy)
            before = selector.groups
            _tap(m, before, self.groups[first.name])
        else:
            m.submodules.grouper = grouper = EventGrouper(shape=source, core=core, flushes=self._flushes)
            wiring.connect(m, taken.given, grouper.events)
            before = grouper.groups
        if projection or not pool:
            # The selector's and the pool's handshake in one cycle would be the longest path of the machine.
            m.submodules.between = between = StreamBuffer(payload=before.payload.shape())
            wiring.connect(m, before, between.taken)
            seen.append(before.valid)
            before = between.given
            seen.append(before.valid)
        if pool:
            m.submodules.pool = pool
            wiring.connect(m, before, pool.groups)
            before = pool.pooled
            seen.append(before.valid)
            _tap(m, before, self.groups[last.name])
        m.submodules.serializer = serializer = Serializer(
            shape=network.shape_of(last.name), core=core, more_bits=more_bits(network, last.name), flushes=self._flushes
        )
        m.submodules.fifo = fifo = SyncFIFO(width=serializer.events.payload.shape().size, depth=core.event_fifo)
        m.submodules.output = output = StreamBuffer(payload=serializer.events.payload.shape())
        wiring.connect(m, before, serializer.groups)
        m.d.comb += [
            fifo.w_en.eq(serializer.events.valid),
            fifo.w_data.eq(serializer.events.payload),
            serializer.events.ready.eq(fifo.w_rdy),
            output.taken.valid.eq(fifo.r_rdy),
            output.taken.payload.eq(fifo.r_data),
            fifo.r_en.eq(output.taken.ready),
        ]
        wiring.connect(m, output.given, wiring.flipped(self.spikes))
        if self._states:
            m.d.comb += self.busy.eq(Cat(*seen, serializer.events.valid, fifo.r_rdy, output.given.valid).any())
        return m


def _tap(m: Module, watched: stream.Interface, copy: stream.Interface) -> None:
    """Make what passes visible to who is not part of the stream."""
    m.d.comb += [copy.valid.eq(watched.valid), copy.ready.eq(watched.ready), copy.payload.eq(watched.payload)]
