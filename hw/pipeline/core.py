"""One stage of the pipeline: from the events of one link to the events of the next."""

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, SpikeGroup
from hw.neuron import DeferredState, NeuronState
from hw.parts.buffer import StreamBuffer
from hw.parts.memory import DISTRIBUTED, BuiltMemory, placed
from hw.parts.queue import BlockQueue
from hw.pipeline.groups import EventGrouper, GroupSelector
from hw.pipeline.merge import Merge, OrderedMerge
from hw.pipeline.pool import MaxPoolGroups
from hw.pipeline.projection import ProjectionCore
from hw.pipeline.serializer import Serializer
from model.machine.barriers import barred, carried, own_level, taken_levels
from model.machine.plan import DISTRIBUTED_EVENTS, Plan
from model.machine.stages import Stage, core_plan, count_bits, more_bits
from model.network import MaxPool, Network, Neurons
from model.rest import first_states

__all__ = ["LayerCore"]


class LayerCore(wiring.Component):
    """A neuron layer, a neuron layer with its max-pool, or a max-pool alone.

    Operation
    ---------
    Projection core (or events as they come), one group of spikes at a time, max-pool on groups, one event per cycle, and a FIFO.
    Several inputs are merged first (`Merge`, or `OrderedMerge` where the network fires immediate). Inputs and output are a
    `StreamBuffer` each: no combinational path runs from one core through the router to another.

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
    events, events_1, ... : In, stream of AddressEvent
        Of each input's source.
    spikes : Out, stream of AddressEvent
        Of the last layer.
    saturated : Out
        As of `ProjectionCore`.
    busy : Out
        1 where something is on its way, but for what the selector, the pool and the serializer just have in hand; where the plan
        has ``states``.
    ask, place, state
        As of `ProjectionCore`; where the plan has ``states``, and the stage neurons.
    weights_passed, weights_differ
        As of `ProjectionCore`; where the plan has ``weight_check``, and the stage neurons.
    """

    def __init__(self, *, network: Network, stage: Stage, plan: Plan) -> None:
        self._network = network
        self._stage = stage
        first, flushes = stage.layers[0], network.flush_events > 0
        self._core = core_plan(network, plan, stage)
        self._flushes = flushes
        # Levels of barriers that leave, and that come.
        self._levels, self._taken_levels = len(carried(network)[stage.name]), len(taken_levels(network, first))
        self.groups = {
            layer.name: stream.Signature(
                SpikeGroup(
                    network.shape_of(layer.name),
                    self._core,
                    more_bits(network, layer.name),
                    flushes=flushes,
                    levels=self._levels,
                )
            ).create(path=("groups", layer.name))
            for layer in stage.layers
        }
        self._states = plan.states
        self._weight_check = plan.weight_check
        members: dict[str, In | Out] = {
            **{
                name: In(stream.Signature(AddressEvent(network.shape_of(source), self._taken_levels)))
                for name, source in zip(_event_streams(stage), stage.sources, strict=True)
            },
            "spikes": Out(stream.Signature(AddressEvent(network.shape_of(stage.name), self._levels))),
            "saturated": Out(1),
        }
        if plan.states:
            members["busy"] = Out(1)
            if isinstance(first, Neurons):
                place = AddressEvent(network.shape_of(first.name))
                state = (DeferredState if network.deferred else NeuronState)(first)
                members |= {"ask": In(1), "place": In(place), "state": Out(state)}
        if plan.weight_check and isinstance(first, Neurons):
            members |= {"weights_passed": Out(1), "weights_differ": Out(1)}
        super().__init__(members)

    @property
    def stage(self) -> Stage:
        """The layers that are built."""
        return self._stage

    @property
    def inputs(self) -> "tuple[stream.Interface, ...]":
        """The streams of events that it takes, one for each of its stage's sources."""
        return tuple(getattr(self, name) for name in _event_streams(self._stage))

    @property
    def memories(self) -> tuple[BuiltMemory, ...]:
        """Those of its projection and of its pool, where there are, and the FIFO of events."""
        projection, pool = self._projection(), self._pool()
        width, depth = self.spikes.payload.shape().size, self._core.event_fifo
        return (
            *(placed("projection", projection.memories) if projection else ()),
            *(placed("pool", pool.memories) if pool else ()),
            *(
                placed("fifo", self._queue(self._stage.name, depth, self._levels).memories)
                if depth > DISTRIBUTED_EVENTS
                else [BuiltMemory(name="fifo", width=width, depth=depth, kind=DISTRIBUTED)]
            ),
            *(
                memory
                for number, source in enumerate(self._stage.sources[1:] if self._core.join_fifo else (), start=1)
                for memory in placed(
                    f"queue_{number}", self._queue(source, self._core.join_fifo, self._taken_levels).memories
                )
            ),
        )

    def _queue(self, source: str, depth: int, levels: int) -> BlockQueue:
        """A queue of events of a layer."""
        return BlockQueue(payload=AddressEvent(self._network.shape_of(source), levels), depth=depth)

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
            joined=[network.shape_of(source) for source in self._stage.sources[1:]],
            levels=self._levels,
            weight_check=self._weight_check,
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
            levels=self._levels,
            start=first_states(network)[last.name],
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        network, core = self._network, self._core
        projection, pool = self._projection(), self._pool()
        first, last = self._stage.layers[0], self._stage.layers[-1]
        source = network.shape_of(self._stage.source)
        events, seen = self._taken_events(m)
        if projection:
            m.submodules.projection = projection
            m.submodules.selector = selector = GroupSelector(
                shape=network.shape_of(first.name),
                core=projection.firing,
                more_bits=more_bits(network, first.name),
                flushes=self._flushes,
                levels=self._levels,
            )
            wiring.connect(m, events, projection.events)
            wiring.connect(m, projection.groups, selector.steps)
            m.d.comb += self.saturated.eq(projection.saturated)
            if self._states:
                m.d.comb += [
                    projection.ask.eq(self.ask), projection.place.eq(self.place), self.state.eq(projection.state)
                ]
                seen.append(projection.busy)
            if self._weight_check:
                m.d.comb += [
                    self.weights_passed.eq(projection.weights_passed), self.weights_differ.eq(projection.weights_differ)
                ]
            before = selector.groups
            _tap(m, before, self.groups[first.name])
        else:
            m.submodules.grouper = grouper = EventGrouper(
                shape=source, core=core, flushes=self._flushes, levels=self._levels
            )
            wiring.connect(m, events, grouper.events)
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
            shape=network.shape_of(last.name),
            core=core,
            more_bits=more_bits(network, last.name),
            flushes=self._flushes,
            levels=self._levels,
        )
        payload = serializer.events.payload.shape()
        output = StreamBuffer(payload=payload)
        if core.event_fifo > DISTRIBUTED_EVENTS:
            m.submodules.fifo = queue = self._queue(last.name, core.event_fifo, self._levels)
            m.submodules.output = output
            wiring.connect(m, before, serializer.groups)
            wiring.connect(m, serializer.events, queue.taken)
            wiring.connect(m, queue.given, output.taken)
            held = queue.holds
        else:
            m.submodules.fifo = fifo = SyncFIFO(width=payload.size, depth=core.event_fifo)
            m.submodules.output = output
            wiring.connect(m, before, serializer.groups)
            m.d.comb += [
                fifo.w_en.eq(serializer.events.valid),
                fifo.w_data.eq(serializer.events.payload),
                serializer.events.ready.eq(fifo.w_rdy),
                output.taken.valid.eq(fifo.r_rdy),
                output.taken.payload.eq(fifo.r_data),
                fifo.r_en.eq(output.taken.ready),
            ]
            held = fifo.r_rdy
        wiring.connect(m, output.given, wiring.flipped(self.spikes))
        if self._states:
            m.d.comb += self.busy.eq(Cat(*seen, serializer.events.valid, held, output.given.valid).any())
        return m

    def _taken_events(self, m: Module) -> tuple[stream.Interface, list[Value]]:
        """The events of all inputs, each after a register stage, as one stream; and of each input whether one waits there."""
        taken = [StreamBuffer(payload=events.payload.shape()) for events in self.inputs]
        queued: list[Value] = []
        for number, (name, events, buffer) in enumerate(zip(_event_streams(self._stage), self.inputs, taken, strict=True)):
            m.submodules[name.replace("events", "input")] = buffer
            if number and self._core.join_fifo:
                source, depth = self._stage.sources[number], self._core.join_fifo
                m.submodules[f"queue_{number}"] = queue = self._queue(source, depth, self._taken_levels)
                wiring.connect(m, wiring.flipped(events), queue.taken)
                wiring.connect(m, queue.given, buffer.taken)
                queued.append(queue.holds)
            else:
                wiring.connect(m, wiring.flipped(events), buffer.taken)
        seen: list[Value] = [*(buffer.given.valid for buffer in taken), *queued]
        if len(taken) == 1:
            return taken[0].given, seen
        shapes = [self._network.shape_of(source) for source in self._stage.sources]
        merge: Merge | OrderedMerge
        if barred(self._network):
            own = own_level(self._network, self._stage.layers[0])
            merge = OrderedMerge(shapes=shapes, levels=self._taken_levels, ends_here=own > 0)
        else:
            merge = Merge(shapes=shapes)
        m.submodules.merge = merge
        for number, buffer in enumerate(taken):
            wiring.connect(m, buffer.given, getattr(merge, f"events_{number}"))
        return merge.merged, seen


def _event_streams(stage: Stage) -> list[str]:
    """The names of the members that a core takes events by."""
    return ["events", *(f"events_{number}" for number in range(1, len(stage.sources)))]


def _tap(m: Module, watched: stream.Interface, copy: stream.Interface) -> None:
    """Make what passes visible to who is not part of the stream."""
    m.d.comb += [copy.valid.eq(watched.valid), copy.ready.eq(watched.ready), copy.payload.eq(watched.payload)]
