"""The router: the host's frames on their way in, and copies of what passes on their way out."""

from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value
from amaranth.utils import bits_for

import hw.pipeline.router
from hw.aer import Kind
from model.machine.plan import CorePlan, Plan
from model.network import INPUT, Network
from sim.formal.bench import Bench, called, elaborated, kept
from sim.formal.networks import small_tree
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES"]

_FIELDS = ("kind", "negative", "y", "x", "c")
_COUNT = 10
"""Bits of counters of frames, which they never fill."""

_MOST_REACHED = 8
"""Below so many frames, a router is seen to have as many as it counts."""


def routed(
    bench: Bench,
    routers: ModuleType,
    *,
    tree: Sequence[int],
    inject: bool = True,
    watch: bool = True,
    frames: int = 3,
    fifo: int = 2,
    flushes: bool = False,
) -> None:
    """A `Router` between a host, cores, and whoever watches.

    Each core takes its tokens when it likes, and fires when it likes: any spikes from the first token of a frame on, and one end
    for each that it has taken. The host sends frames to any ports, one port each, the router counts up to ``frames`` on their way
    to a leaf, and the FIFO of what is watched has room for ``fifo`` tokens.
    """
    network = small_tree(tree, flushes=flushes)
    plan = Plan(
        name="small", cores=tuple(CorePlan(layer=la.name) for la in network.layers), inject=inject, watch=watch
    )
    built = _built(bench, routers, network, plan, frames, fifo)
    links = [_Link(bench, built, number, network) for number in range(1 + len(tree))]
    host = _Host(bench, built, links, tree, flushes=flushes)
    for link in links:
        _passes(bench, built, link, host)
    if inject:
        _Frames(bench, built, links, host, tree, most=frames)
    if watch:
        copies = [_Copies(bench, built, link) for link in links]
        _watched(bench, built, links, copies, fifo)


class _Built(NamedTuple):
    """A router, and what is inside of it."""

    dut: Any
    admits: SimpleNamespace
    forks: dict[str, SimpleNamespace]
    buffers: list[tuple[Any, SimpleNamespace]]
    fifos: list[tuple[Any, SimpleNamespace]]


def _built(bench: Bench, routers: ModuleType, network: Network, plan: Plan, frames: int, fifo: int) -> _Built:
    forks: dict[str, SimpleNamespace] = {}
    buffers: list[tuple[Any, SimpleNamespace]] = []
    fifos: list[tuple[Any, SimpleNamespace]] = []
    made = routers.fork, routers.StreamBuffer, routers.SyncFIFO

    def fork(m: Any, name: str, *arguments: Any) -> None:
        forks[name] = called(made[0], m, name, *arguments)[1]

    def buffer(**options: Any) -> Any:
        one = made[1](**options)
        buffers.append((one, elaborated(one)))
        return one

    def queue(**options: Any) -> Any:
        one = made[2](**options)
        fifos.append((one, elaborated(one)))
        return one

    limits = {"FRAMES_TO_LEAF": frames, "FRAMES_WIDTH": bits_for(frames), "WATCHED_FIFO": fifo}
    with patch.multiple(routers, fork=fork, StreamBuffer=buffer, SyncFIFO=queue, **limits):
        dut = routers.Router(network=network, plan=plan)
        admits = kept(dut, "_admit_host")
        bench.add("dut", dut)
    if plan.watch:
        bench.sink(dut.watched, "watched")
        bench.m.d.comb += dut.watch.eq(bench.any(len(dut.watch), "watch"))
    bench.sink(dut.spikes, "spikes")
    bench.m.d.comb += dut.room.eq(bench.any(1, "room"))
    return _Built(dut, admits[0], forks, buffers, fifos)


def _stays(bench: Bench, offered: Any, name: str) -> Signal:
    """Assume that a token stays until it is taken; gives whether one waited in the cycle before."""
    waited, token = bench.before(offered.valid & ~offered.ready, f"{name}_waits"), Value.cast(offered.payload)
    bench.assume(~waited | (offered.valid & (token == bench.before(token, f"{name}_waiting"))))
    return waited


def _same(one: Any, other: Any) -> Value:
    """Whether two tokens are the same, one of which may be of wider coordinates."""
    return Cat(one[name] == other[name] for name in _FIELDS).all()


def _ends(token: Any, *, flushes: bool) -> Value:
    return (token.kind == Kind.END) & (~token.negative if flushes else Const(1))


class _Link:
    """A link, its source, if that is a core, and its readers.

    Attributes
    ----------
    passes : Value
        Whether its token goes.
    takes : Value
        Which of those that it is offered to take its token: cores, then the output, then the copy.
    has : Signal
        Which of them have it already.
    readers : list
        What cores take, by the order of the layers.
    """

    def __init__(self, bench: Bench, built: _Built, number: int, network: Network) -> None:
        m, dut, name = bench.m, built.dut, INPUT if number == 0 else network.layers[number - 1].name
        self.number, self.stream, self.core, self.waited = number, dut.links[name], None, Const(0)
        self.flushes = network.flush_events > 0
        if number:
            self.core = getattr(dut, f"from_{name}")
            bench.source(self.core, f"from_{name}")
            self.waited = _stays(bench, self.core, name)
        self.taking = [n + 1 for n, layer in enumerate(network.layers) if layer.source == name]
        self.readers = [getattr(dut, f"to_{network.layers[n - 1].name}") for n in self.taking]
        for n, reader in zip(self.taking, self.readers, strict=True):
            bench.sink(reader, f"to_{n}")
        self.passes = self.stream.valid & self.stream.ready
        self.ends = _ends(self.stream.payload, flushes=self.flushes)

        branches = built.forks[name].branches
        self.takes = takes = Cat(branch.valid & branch.ready for branch in branches)
        self.has = Signal(len(branches), name=f"has_{number}")
        m.d.sync += self.has.eq(Mux(self.passes, 0, self.has | takes))
        self.waits = bench.before(self.stream.valid & ~self.stream.ready, f"waits_{number}")
        if len(branches) > 1 or (branches and (hasattr(built.admits, "injecting") or not number)):
            # Each of those that read it takes each token once.
            bench.holds(((self.has & takes) == 0) & (~self.passes | (self.has | takes).all()))
            bench.lemma(self.has == (built.forks[name].taken if len(branches) > 1 else 0))
            bench.lemma(self.waits | ~self.has.any())
        if len(branches) > 1:
            # Where only one reads it, it is wires.
            given = [*self.readers, *([dut.spikes] if number == len(network.layers) else [])]
            for each in given:
                bench.holds(~each.valid | (self.stream.valid & _same(each.payload, self.stream.payload)))
            bench.reaches(self.passes & self.has[:-1].any())


class _Host:
    """What the host sends.

    Attributes
    ----------
    passes : Value
        Whether its token goes.
    port : Value
        The port at which the router lets frames in.
    in_frame : Signal
        Whether a token of its frame has been offered, and its end has not gone.
    begins : Value
        Whether the first token of a frame is offered.
    waited : Signal
        Whether a token waited in the cycle before.
    """

    def __init__(self, bench: Bench, built: _Built, links: list[_Link], tree: Sequence[int], *, flushes: bool) -> None:
        m, dut, admits = bench.m, built.dut, built.admits
        self.stream, self.token = dut.host, dut.host.payload
        bench.source(dut.host, "host")
        self.waited = _stays(bench, dut.host, "host")
        self.injects = hasattr(admits, "injecting")
        self.port = admits.injecting if self.injects else Const(0, 1)
        self.passes = dut.host.valid & dut.host.ready
        self.in_frame, port = Signal(name="in_frame_of_host"), Signal(self.token.port.shape(), name="port_of_frame")
        self.begins = admits.offers & ~self.in_frame
        with m.If(admits.offers):
            m.d.sync += self.in_frame.eq(~(self.passes & _ends(self.token, flushes=flushes)))
        with m.If(self.begins):
            m.d.sync += port.eq(self.token.port)
        # All tokens of a frame name its port, which is the input's where there is no other.
        bench.assume(~self.in_frame | (self.token.port == port))
        if not self.injects:
            bench.assume(self.token.port == 0)
        last = len(tree)
        self.answered = Array(Const(number == last or last in _below(tree, number), 1) for number in range(1 << len(port)))
        # An answer is announced once, where there is room, not after its first token.
        bench.holds(dut.started == (self.begins & self.answered[self.token.port]))
        bench.holds(~dut.started | dut.room)
        bench.lemma(self.in_frame == admits.in_frame)
        bench.lemma(~self.in_frame | (port == self.port))
        self.known = self.port < len(links)
        ready = Array(link.stream.ready for link in links)[self.port] | ~self.known
        valid = Array(link.stream.valid for link in links)[self.port] | ~self.known
        # Within a frame nothing but the link's readers holds the host up.
        bench.holds(~(dut.host.valid & self.in_frame) | (valid & (dut.host.ready == ready)))
        if not self.injects:
            bench.holds(~(dut.host.valid & dut.room) | (valid & (dut.host.ready == ready)))
        bench.reaches(self.begins & ~self.passes)
        bench.reaches(self.passes & self.in_frame & (self.token.kind == Kind.SPIKE))


def _passes(bench: Bench, built: _Built, link: _Link, host: _Host) -> None:
    """What passes on a link is its core's token or the host's, unchanged; where a core offers one, it is that."""
    stream, token = link.stream, link.stream.payload
    of_host = host.passes & (host.token.port == link.number)
    of_core = link.core.valid & link.core.ready if link.core is not None else Const(0)
    bench.holds((link.passes == (of_host | of_core)) & ~(of_host & of_core))
    sent = Cat(Value.cast(token[name]) == Value.cast(host.token[name])[: len(Value.cast(token[name]))] for name in _FIELDS).all()
    bench.holds(~of_host | sent)
    if link.core is not None and host.injects:
        same = Value.cast(token) == Value.cast(link.core.payload)
        bench.holds(~link.core.valid | (stream.valid & same & (link.core.ready == stream.ready)))
    if len(link.has) and (host.injects or not link.number):
        waits = Mux(host.port == link.number, host.in_frame & host.waited, link.waited)
        bench.lemma(~link.has.any() | waits)
    bench.reaches(link.passes & (of_core if link.core is not None else of_host))
    if host.injects:
        bench.reaches(of_host)


def _below(tree: Sequence[int], number: int) -> set[int]:
    """The layers that a link's tokens reach."""
    found = {number}
    for layer, source in enumerate(tree, 1):
        if source in found:
            found.add(layer)
    return found - {number}


class _Frames:
    """Frames on their way, and the cores that have them.

    Of each core it counts the ends that it has taken and not fired, and knows whether it has taken some of a frame, and not its
    end; of each link the frames that the host has begun and whose end has not passed there.
    """

    def __init__(
        self, bench: Bench, built: _Built, links: list[_Link], host: _Host, tree: Sequence[int], *, most: int
    ) -> None:
        m = bench.m
        below = [_below(tree, number) for number in range(len(links))]
        ports = 1 << len(host.port)

        def of_port(numbers: Any) -> Value:
            """Whether the port is one of some."""
            return Array(Const(number in numbers, 1) for number in range(ports))[host.port]

        self.coming: list[Signal] = []
        for link in links:
            coming = Signal(_COUNT, name=f"coming_{link.number}")
            reached = of_port([n for n in range(len(links)) if n == link.number or link.number in below[n]])
            m.d.sync += coming.eq(coming + (host.begins & reached) - (link.passes & link.ends))
            bench.lemma(reached | (coming == 0))
            bench.lemma((host.port != link.number) | (coming == host.in_frame))
            self.coming.append(coming)
        idle = []
        for link in links:
            for place, (number, reader) in enumerate(zip(link.taking, link.readers, strict=True)):
                ends, begun = Signal(_COUNT, name=f"ends_in_{number}"), Signal(name=f"begun_in_{number}")
                core, takes = links[number].core, reader.valid & reader.ready
                assert core is not None
                took_end, fires = takes & _ends(reader.payload, flushes=link.flushes), core.valid & core.ready
                m.d.sync += ends.eq(ends + took_end - (fires & _ends(core.payload, flushes=link.flushes)))
                with m.If(takes):
                    m.d.sync += begun.eq(~took_end)
                bench.assume(~core.valid | Mux(_ends(core.payload, flushes=link.flushes), ends != 0, (ends != 0) | begun))
                idle.append((ends == 0) & ~begun & ~core.valid)
                has_end = link.has[place] & link.ends
                of_core = of_port([n for n in range(len(links)) if number in below[n]])
                bench.lemma(~of_core | (self.coming[number] + has_end == self.coming[link.number] + ends))
                bench.lemma(of_core | ((ends == 0) & ~begun))
                bench.lemma(~(begun & has_end))
                bench.lemma(~(begun | has_end) | (self.coming[link.number] != 0))
        self._of_leaves(bench, built, links, host, Cat(idle).all(), most)

    def _of_leaves(
        self, bench: Bench, built: _Built, links: list[_Link], host: _Host, idle: Value, most: int
    ) -> None:
        """When a frame begins, and what the router counts."""
        admits, leaves = built.admits, [link for link in links if not link.taking]
        room_left = []
        for link, busy, full in zip(leaves, admits.busy, admits.full, strict=True):
            coming = self.coming[link.number]
            before = bench.before(coming, f"coming_{link.number}")
            bench.holds(coming <= most)
            frames, _ = busy.operands
            bench.lemma(frames == coming)
            bench.lemma((coming <= before + 1) & (full == (before >= most - 1)))
            room_left.append(before < most - 1)
            if most < _MOST_REACHED:
                bench.reaches(coming == most)
        waits, elsewhere = host.stream.valid & ~host.in_frame, host.token.port != host.port
        may = Cat(room_left).all() & (built.dut.room | ~host.answered[host.token.port])
        # A frame for the port of the last one waits for room only; one for another, until the machine is empty.
        bench.holds(~(waits & ~elsewhere & may) | host.begins)
        bench.holds(~(host.begins & elsewhere))
        bench.holds(~bench.before(waits & elsewhere & idle, "waits_for_none") | ~elsewhere)
        bench.holds(~(waits & idle) | Cat(self.coming[link.number] == 0 for link in leaves).all())
        was_at_input = Signal(name="was_at_input")
        with bench.m.If(host.begins & (host.port == 0)):
            bench.m.d.sync += was_at_input.eq(1)
        bench.reaches(host.begins & was_at_input & (host.port == len(links) - 1))
        if len(links) < 1 << len(host.port):
            bench.reaches(host.passes & ~host.known & was_at_input)
        bench.reaches(host.begins & (self.coming[leaves[-1].number] != 0))


class _Copies:
    """Copies of a link's tokens, on their way from it.

    Attributes
    ----------
    enters : Value
        Whether one is taken.
    given : stream.Interface
        Where it goes on.
    now, first, second : Value
        A copy of the token that is there, and what the buffer holds, as they are to leave.
    level : Value
        How many it holds.
    """

    def __init__(self, bench: Bench, built: _Built, link: _Link) -> None:
        m, dut, stream, number = bench.m, built.dut, link.stream, link.number
        buffer, inside = built.buffers[number]
        self._bench, self._number, self._layout = bench, number, dut.watched.payload.shape()
        self.given, self.enters = buffer.given, buffer.taken.valid & buffer.taken.ready
        token = stream.payload.shape()
        self.now, self.first, self.second = (
            self._copy(name, payload)
            for name, payload in (("now", stream.payload), ("first", buffer.given.payload), ("second", token(inside.second)))
        )
        self.level = buffer.given.valid + inside.has_second
        bench.lemma(buffer.given.valid | ~inside.has_second)

        # A token that passes while its link is watched has been copied once; while it is not, not at all.
        on, waits = dut.watch[number], link.waits
        copied, ever, always = (Signal(name=f"{name}_{number}") for name in ("copied", "ever", "always"))
        ever_before, always_before = bench.before(ever, f"ever_{number}"), bench.before(always, f"always_{number}")
        m.d.comb += [ever.eq(on | (waits & ever_before)), always.eq(on & (~waits | always_before))]
        m.d.sync += copied.eq(stream.valid & ~stream.ready & (copied | self.enters))
        bench.holds(~self.enters | (stream.valid & on & ~copied))
        bench.holds(~(link.passes & always) | copied | self.enters)
        bench.holds(~(link.passes & ~ever) | ~(copied | self.enters))
        if len(link.has) > 1:
            bench.lemma(~copied | (waits & link.has[-1] & ever_before))
            bench.lemma(~(waits & link.has[-1] & always_before) | copied)
        else:
            # Nobody else waits for its token.
            bench.lemma(~copied)
        # That a link is watched holds it up only while two of its copies wait.
        others = (link.has | link.takes | (1 << len(link.has) - 1)).all()
        bench.holds(~(stream.valid & others & ~stream.ready) | (on & (self.level == 2)))
        bench.reaches(link.passes & always & (copied if len(link.has) > 1 else self.enters))
        bench.reaches(stream.valid & others & ~stream.ready)

    def _copy(self, name: str, payload: Any) -> Signal:
        copy = Signal(self._layout, name=f"copy_{name}_{self._number}")
        self._bench.m.d.comb += [copy.port.eq(self._number), *(copy[field].eq(payload[field]) for field in _FIELDS)]
        return copy.as_value()


def _watched(bench: Bench, built: _Built, links: list[_Link], copies: list[_Copies], depth: int) -> None:
    """Copies of any one link's tokens, from there until they leave; and whose turn it is."""
    m, watched = bench.m, built.dut.watched
    (fifo, ring), = built.fifos
    moves = [each.given.valid & each.given.ready for each in copies]
    for number, each in enumerate(copies):
        # Where there is room one goes: a copy waits for those nearer to the output only.
        bench.holds(~(each.given.valid & ~moves[number] & fifo.w_rdy) | Cat(moves[number + 1 :]).any())

    which = bench.constant(range(len(links)), "which")
    bench.assume(which < len(links))
    fields, payload = watched.payload, Value.cast(watched.payload)
    its = watched.valid & (fields.port == which)
    enters, leaves = Array(each.enters for each in copies)[which], its & watched.ready
    level, one, ahead = Signal(range(depth + 4), name="level"), Signal(name="one"), Signal(range(depth + 3), name="ahead")
    token, starves = Signal(len(payload), name="token"), Signal(2, name="starves")
    m.d.sync += level.eq(level + enters - leaves)
    with m.If(enters & ~one & bench.any(1, "watch_token")):
        m.d.sync += [one.eq(1), ahead.eq(level - leaves), token.eq(Array(each.now for each in copies)[which])]
    with m.Elif(one & leaves):
        m.d.sync += [one.eq(ahead != 0), ahead.eq(ahead - (ahead != 0))]
    m.d.sync += starves.eq(Mux((level != 0) & ~watched.valid, starves + 1, 0))
    # Each leaves in its turn, as it came, under its link's port, and soon; none does that did not come.
    bench.holds(~watched.valid | (fields.port < len(links)))
    bench.holds(~its | (level != 0))
    bench.holds(~(one & (ahead == 0) & its) | (payload == token))
    waited = bench.before(watched.valid & ~watched.ready, "watched_waits")
    bench.holds(~waited | (watched.valid & (payload == bench.before(payload, "watched_payload"))))
    bench.holds((level <= depth + 2) & (starves < 2))
    if depth < _MOST_REACHED:
        bench.reaches((level == depth + 2) & one & (ahead == depth + 1))
    bench.reaches(one & (ahead == 0) & leaves)

    # Lemmas: where in the FIFO it is, or in its link's buffer.
    bench.lemma((ring.consume < depth) & (ring.produce < depth) & (fifo.level <= depth))
    after = ring.consume + fifo.level
    bench.lemma(ring.produce == Mux(after >= depth, after - depth, after))
    within: Value = Const(0)
    for place in range(depth):
        look, at = ring.storage.read_port(domain="comb"), ring.consume + place
        m.d.comb += look.addr.eq(Mux(at >= depth, at - depth, at))
        word, there = fields.shape()(look.data), place < fifo.level
        mine = there & (word.port == which)
        bench.lemma(~there | (word.port < len(links)))
        bench.lemma(~(one & mine & (ahead == within)) | (look.data == token))
        within = within + mine
    bench.lemma(level == within + Array(each.level for each in copies)[which])
    bench.lemma(~one | (ahead < level))
    for name, behind in (("first", 0), ("second", 1)):
        held = Array(getattr(each, name) for each in copies)[which]
        bench.lemma(~(one & (ahead == within + behind)) | (held == token))
    bench.lemma((starves == 0) | (fifo.level != 0))


_CHAIN = {"tree": (0, 1)}
_TWO_LEAVES = {"tree": (0, 1, 1)}

PROPERTIES = (
    Property(
        name="The router: the host's frames into their ports, one after the other; a copy of each token that is watched",
        module=hw.pipeline.router,
        part="Router",
        bound="chains and trees of 1 to 3 layers, with 1 to 3 leaves; with and without ways in and out; "
        "3 and 255 frames to a leaf, 1 to 5 copies; flushes within frames",
        build=routed,
        cases=[
            _CHAIN,
            _TWO_LEAVES,
            {"tree": (0,), "fifo": 1},
            {"tree": (0, 0), "watch": False},
            {"tree": (0, 1, 0), "fifo": 3},
            {"tree": (0, 1, 2), "flushes": True, "watch": False},
            {"tree": (0, 0, 0), "inject": False},
            {**_CHAIN, "inject": False, "watch": False},
            {**_CHAIN, "flushes": True, "frames": 255, "fifo": 5},
        ],
        reach=16,
        fault=Fault(
            says="a frame for another port does not wait until those before have left",
            right="(token.port != injecting) & ~Cat(busy).any() & ~waits)",
            wrong="(token.port != injecting) & ~waits)",
            steps=12,
        ),
        more_faults=[
            Fault(
                says="nor until their last token has been taken by all",
                right="(token.port != injecting) & ~Cat(busy).any() & ~waits)",
                wrong="(token.port != injecting) & ~Cat(busy).any())",
                steps=16,
            ),
            Fault(
                says="frames are let in however many are on their way",
                right="(token.port == injecting) & ~Cat(full).any() &",
                wrong="(token.port == injecting) &",
                steps=12,
            ),
            Fault(
                says="a frame starts with each of its tokens",
                right="starts.eq(offers & ~in_frame)",
                wrong="starts.eq(offers)",
                steps=8,
            ),
            Fault(
                says="it is over as soon as its end is offered",
                right="m.d.sync += in_frame.eq(~(passes & is_end))",
                wrong="m.d.sync += in_frame.eq(~is_end)",
                steps=8,
            ),
            Fault(
                says="a frame for a port that does not exist stays",
                right="for n, port in links.items()).any() | ~known))",
                wrong="for n, port in links.items()).any()))",
                steps=8,
            ),
            Fault(
                says="frames at inner ports need the readout's room",
                right="(self.room | ~reaches_answer)",
                wrong="self.room",
                steps=8,
                case=1,
            ),
            Fault(
                says="two copies that are there at once leave as one",
                right="m.d.comb += given.ready.eq(~taken)",
                wrong="m.d.comb += given.ready.eq(fifo.w_rdy)",
                steps=8,
            ),
            Fault(
                says="a copy that comes as one leaves a full FIFO is lost",
                right="taken: Value = ~fifo.w_rdy",
                wrong="taken: Value = ~fifo.w_rdy & ~self.watched.ready",
                steps=12,
            ),
            Fault(
                says="all copies name the input",
                right="copy.port.eq(links[name])",
                wrong="copy.port.eq(0)",
                steps=8,
            ),
            Fault(
                says="links are copied that are not watched",
                right="buffer.taken.valid.eq(branch & watched)",
                wrong="buffer.taken.valid.eq(branch)",
                steps=8,
            ),
            Fault(
                says="they wait for copies that are not made",
                right="Branch(branch, buffer.taken.ready | ~watched, wants)",
                wrong="Branch(branch, buffer.taken.ready, wants)",
                steps=12,
            ),
        ],
    ),
)
