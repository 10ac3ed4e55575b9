"""The queues: the events that wait for each layer, all in one memory."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.folded.layouts import Event, QueuedEvent, Spike
from model.machine.folded_layout import Folded

__all__ = ["Queues"]


class Queues(wiring.Component):
    """The events that wait for each layer but the first, which takes the host's.

    Operation
    ---------
    The deepest layer that has an event takes it first. So all that an event fires has been taken before the next one of its
    layer is: a queue holds what one event can fire, never overflows, and starts again from its first word when it is empty.

    Timing
    ------
    ``waiting`` and ``deepest`` follow a push or a pop by a cycle; ``event`` is valid in the cycle after its ``pop``. An event is
    never pushed and popped in the same cycle.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    layer : In, range(layers)
        number of the layer in use
    push : In, 1 bit
        ``spike``, which that layer fired, goes into the next one's queue; of the last layer it goes nowhere
    spike : In, Spike
    waiting : Out, 1 bit
        whether any event waits
    deepest : Out, range(layers)
        number of the deepest layer for which one does
    pop : In, 1 bit
        that layer takes its first event
    event : Out, Event
        the event that was popped, where ``layer`` is the one that took it
    following : In, unsigned
        how many equal spikes are pushed with this one, in one word; where neurons fire several at once. Then an event is popped
        in the cycle in which it is valid, one after ``waiting``.
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        number = range(max(2, len(folded.layers)))
        super().__init__(
            {
                "layer": In(number),
                "push": In(1),
                "spike": In(Spike(folded)),
                "waiting": Out(1),
                "deepest": Out(number),
                "pop": In(1),
                "event": Out(Event(folded)),
                **({"following": In(folded.more_bits)} if folded.more_bits else {}),
            }
        )

    @property
    def folded(self) -> Folded:
        """The machine's layers."""
        return self._folded

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layers = self._folded.layers
        if not self._folded.queue_depth:
            return m
        m.submodules.events = events = Memory(
            shape=unsigned(self._folded.queue_width),
            depth=self._folded.queue_depth,
            init=[],
            # No word is read while it is written: Yosys need not build what would make that well defined.
            attrs={"no_rw_check": 1, "ram_style": "block"},
        )
        read, write = events.read_port(), events.write_port()
        filled = Signal(len(layers))
        m.d.comb += self.waiting.eq(filled.any())
        for number, la in enumerate(layers[1:], start=1):
            queue = self._folded.links[number].queue
            head, tail = (Signal(range(queue.depth + 1), name=f"{name}_{number}") for name in ("head", "tail"))
            layout = QueuedEvent(la.inputs[0].source, self._folded.more_bits)
            with m.If(filled[number] & ~filled[number + 1 :].any()):
                m.d.comb += [self.deepest.eq(number), read.addr.eq(queue.base + head)]
                with m.If(self._leaves(m, number, read.data, layout)):
                    m.d.sync += head.eq(head + 1)
                    with m.If(head + 1 == tail):
                        m.d.sync += [head.eq(0), tail.eq(0), filled[number].eq(0)]
            with m.If(self.layer == number):
                taken = data.View(layout, read.data[: layout.size])
                m.d.comb += [self.event[name].eq(taken[name]) for name in layout.members if name != "more"]
            with m.If(self.layer == number - 1):
                m.d.comb += [
                    write.en.eq(self.push),
                    write.addr.eq(queue.base + tail),
                    write.data.eq(
                        Cat(
                            self.following if name == "more" else self.spike[name][: layout[name].width]
                            for name in layout.members
                        )
                    ),
                ]
                with m.If(self.push):
                    m.d.sync += [tail.eq(tail + 1), filled[number].eq(1)]
        return m

    def _leaves(self, m: Module, number: int, word: Value, layout: QueuedEvent) -> Value:
        """Whether the first word leaves its queue: when the last of the equal events in it is popped."""
        if not self._folded.more_bits:
            return self.pop
        before, last = Signal(self._folded.more_bits, name=f"before_{number}"), Signal(name=f"last_{number}")
        m.d.comb += last.eq(before == data.View(layout, word[: layout.size]).more)
        with m.If(self.pop):
            m.d.sync += before.eq(Mux(last, 0, before + 1))
        return self.pop & last
