"""The queues of a machine whose layers are no chain: events that wait for all inputs that take them, and what inputs keep."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.folded.layouts import Event, QueuedEvent, Spike
from model.machine.folded_layout import Folded, FoldedQueue
from model.machine.folded_order import Action, Service
from model.network import INPUT

__all__ = ["Branches"]


class Branches(wiring.Component):
    """The events that wait on each link, with how far each link's first one has been served (`model.machine.folded_order`).

    Operation
    ---------
    The deepest link that has an event is served next: what a service causes has gone before the next one is done. So a link holds
    what one event can fire, and never overflows; nor does what an input keeps, which is all that one event of a fork can cause.
    The host's event waits in a register while it is served.

    Timing
    ------
    In the cycle in which ``serve`` is 1 the service is done that was next in the cycle before; ``waiting`` follows by a cycle.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    layer : In, range(layers)
        number of the layer in use
    push : In, 1 bit
        ``spike``, which that layer fired, waits on its link; where nothing takes it, it goes nowhere
    spike : In, Spike
    host : In, Event
    hosts : In, 1 bit
        the first input takes ``host``, which waits for those that take it after that
    waiting : Out, 1 bit
        whether any event waits
    serve : In, 1 bit
        the service is done
    takes : Out, 1 bit
        whether an input takes ``event`` by it; otherwise it is kept, or nothing was kept that could be released
    event : Out, Event
    taken_by : Out, range(inputs)
        number of that input
    following : In, unsigned
        how many equal spikes are pushed with this one, in one word; where neurons fire several at once
    """

    def __init__(self, *, folded: Folded) -> None:
        self._folded = folded
        event = Event(folded)
        super().__init__(
            {
                "layer": In(range(max(2, len(folded.layers)))),
                "push": In(1),
                "spike": In(Spike(folded)),
                "host": In(event),
                "hosts": In(1),
                "waiting": Out(1),
                "serve": In(1),
                "takes": Out(1),
                "event": Out(event),
                "taken_by": Out(range(max(2, len(folded.inputs)))),
                **({"following": In(folded.more_bits)} if folded.more_bits else {}),
            }
        )

    @property
    def folded(self) -> Folded:
        """The machine's layers."""
        return self._folded

    def elaborate(self, platform: object) -> Module:
        m = Module()
        folded = self._folded
        m.submodules.events = events = Memory(
            shape=unsigned(max(1, folded.queue_width)),
            depth=max(1, folded.queue_depth),
            init=[],
            # No word is read while it is written: Yosys need not build what would make that well defined.
            attrs={"no_rw_check": 1, "ram_style": "block"},
        )
        read, write = events.read_port(), events.write_port()
        services = [len(link.services) for link in folded.links]
        served = [number for number, many in enumerate(services) if many > (0 if number else 1)]
        filled = Signal(len(folded.links))
        cursors = {number: Signal(range(max(2, services[number])), name=f"cursor_{number}") for number in served}
        queues = {number: _Queue(f"{number}", folded.links[number].queue) for number in served if number}
        kept = {number: _Queue(f"kept_{number}", queue) for number, queue in folded.kept.items()}

        # What is served next: its link, and what is done there.
        link, done, found = Signal(range(len(folded.links))), _Done(folded), _Done(folded, name="next")
        next_link = Signal.like(link, name="next_link")
        m.d.comb += self.waiting.eq(filled.any())
        for number in served:
            with m.If(filled[number] & ~filled[number + 1 :].any()):
                m.d.comb += next_link.eq(number)
                if number:
                    m.d.comb += read.addr.eq(queues[number].first)
                with m.Switch(cursors[number]):
                    for place, service in enumerate(folded.links[number].services):
                        with m.Case(place):
                            self._choose(m, service, found, kept, read.addr)
        m.d.sync += [link.eq(next_link), *done.follows(found)]

        # It is done.
        host = Signal.like(self.host, name="waiting_host")
        m.d.comb += [self.takes.eq(done.takes), self.taken_by.eq(done.number)]
        self._show(m, done.number, read.data, host)
        for number in served:
            with m.If(self.serve & (link == number) & ~done.releases):
                self._served(m, number, cursors[number], queues.get(number), filled[number], read.data)
        self._keep(m, done, kept, read.data, write)

        # What comes.
        if 0 in cursors:
            with m.If(self.hosts):
                m.d.sync += [host.eq(self.host), cursors[0].eq(1), filled[0].eq(1)]
        for number, queue in queues.items():
            with m.If(self.push & (self.layer == number - 1)):
                layout = QueuedEvent(folded.layers[number - 1].leaving, folded.more_bits)
                word = [
                    self.following if name == "more" else self.spike[name][: layout[name].width] for name in layout.members
                ]
                m.d.comb += write.data.eq(Cat(word))
                queue.push(m, write)
                m.d.sync += filled[number].eq(1)
        return m

    def _choose(self, m: Module, service: Service, found: "_Done", kept: "dict[int, _Queue]", addr: Signal) -> None:
        """A service is what is done next."""
        m.d.comb += found.number.eq(service.number)
        if service.action is Action.TAKE:
            m.d.comb += found.takes.eq(1)
        elif service.action is Action.KEEP:
            m.d.comb += found.keeps.eq(1)
        else:
            with m.If(kept[service.number].filled):
                m.d.comb += [found.takes.eq(1), found.releases.eq(1), addr.eq(kept[service.number].first)]

    def _show(self, m: Module, number: Signal, word: Value, host: data.View) -> None:
        """The event of the input that does it: of the word that was read, or of the host."""
        for each, taken_by in enumerate(self._folded.inputs):
            with m.If(number == each):
                if taken_by.taker.source == INPUT:
                    m.d.comb += self.event.eq(host)
                    continue
                layout = QueuedEvent(taken_by.source, self._folded.more_bits)
                taken = data.View(layout, word[: layout.size])
                m.d.comb += [self.event[name].eq(taken[name]) for name in layout.members if name != "more"]

    def _served(
        self, m: Module, number: int, cursor: Signal, queue: "_Queue | None", filled: Value, word: Value
    ) -> None:
        """A link's first event has been served once more; after the last of its services it goes."""
        folded = self._folded
        last = Signal(name=f"last_service_{number}")
        m.d.comb += last.eq(cursor == len(folded.links[number].services) - 1)
        m.d.sync += cursor.eq(Mux(last, 0, cursor + 1))
        if queue is None:
            with m.If(last):
                m.d.sync += filled.eq(0)
            return
        goes: Value = last
        if folded.more_bits:
            # All spikes of a neuron wait in one word.
            layout = QueuedEvent(folded.layers[number - 1].leaving, folded.more_bits)
            before, is_last = Signal(folded.more_bits, name=f"before_{number}"), Signal(name=f"last_{number}")
            m.d.comb += is_last.eq(before == data.View(layout, word[: layout.size]).more)
            with m.If(last):
                m.d.sync += before.eq(Mux(is_last, 0, before + 1))
            goes = last & is_last
        with m.If(goes):
            queue.pop(m)
            with m.If(queue.is_last):
                m.d.sync += filled.eq(0)

    def _keep(self, m: Module, done: "_Done", kept: "dict[int, _Queue]", word: Value, write: wiring.PureInterface) -> None:
        """What inputs keep, and what of it is released."""
        for number, queue in kept.items():
            layout = QueuedEvent(self._folded.inputs[number].source)
            with m.If(self.serve & (done.number == number)):
                with m.If(done.releases):
                    queue.pop(m)
                with m.If(done.keeps):
                    m.d.comb += write.data.eq(Cat(word[: layout.size], Const(0, self._folded.more_bits)))
                    queue.push(m, write)


class _Done:
    """What is done by a service: registers, or what they follow.

    Attributes
    ----------
    number
        number of the input that does it
    takes, keeps, releases
        whether it takes an event, keeps one, takes one that it has kept
    """

    def __init__(self, folded: Folded, name: str = "done") -> None:
        self.number = Signal(range(max(2, len(folded.inputs))), name=f"{name}_number")
        self.takes, self.keeps, self.releases = (Signal(name=f"{name}_{what}") for what in ("takes", "keeps", "releases"))

    def follows(self, found: "_Done") -> list[object]:
        """Statements by which these registers follow."""
        return [getattr(self, name).eq(getattr(found, name)) for name in ("number", "takes", "keeps", "releases")]


class _Queue:
    """A queue, which starts again from its first word when it is empty.

    Attributes
    ----------
    first
        address of its first event
    filled, is_last
        whether it has any; whether that is the only one
    """

    def __init__(self, name: str, queue: FoldedQueue) -> None:
        self._base = queue.base
        self._head, self._tail = (Signal(range(queue.depth + 1), name=f"{end}_{name}") for end in ("head", "tail"))
        self.first = self._base + self._head
        self.filled = self._tail != 0
        self.is_last = self._head + 1 == self._tail

    def pop(self, m: Module) -> None:
        """Its first event goes."""
        m.d.sync += self._head.eq(self._head + 1)
        with m.If(self.is_last):
            m.d.sync += [self._head.eq(0), self._tail.eq(0)]

    def push(self, m: Module, write: wiring.PureInterface) -> None:
        """What is written comes last."""
        m.d.comb += [write.en.eq(1), write.addr.eq(self._base + self._tail)]
        m.d.sync += self._tail.eq(self._tail + 1)
