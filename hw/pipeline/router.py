"""The AER router: every path between cores, and the host's way in and out."""

from typing import NamedTuple

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.aer import AddressEvent, HostEvent, Kind, ends_frame, is_barrier
from hw.parts.buffer import StreamBuffer
from hw.parts.memory import DISTRIBUTED, BuiltMemory
from hw.parts.tables import lookup
from model.machine.barriers import carried, closed, taken_levels
from model.machine.limits import FRAMES_TO_LEAF, WATCHED_FIFO
from model.machine.plan import Plan
from model.machine.stages import Stage, ports, stages
from model.network import INPUT, Network

__all__ = ["FRAMES_WIDTH", "Branch", "Router", "answered_ports", "enters", "fork"]

FRAMES_WIDTH = bits_for(FRAMES_TO_LEAF)
"""Width of the counters of frames in flight."""


class Branch(NamedTuple):
    """A reader of a link."""

    valid: Signal
    ready: Value
    wants: Value | None = None
    """Whether it wants the token that is there; None where it wants all."""


class Router(wiring.Component):
    """Links the cores by the network's graph.

    Operation
    ---------
    Each link has one source and any number of readers, which all take every token once, in order, each at its own pace within one
    token (multicast). A reader that does not need the barriers of a link is not offered those that come alone, and is told of
    each token only what closes behind it that it needs. A core has a reader for each of its inputs, two of one link where it
    takes that twice. The host's frames enter at the port they name, as if the layer before it had fired them. A frame for another
    port than the last one waits until the machine is empty, so that two sources never compete for a link. The host can watch any
    link: what passes is copied to `watched`, and waits for it, so that nothing is lost. Between links the copies come first-come-
    first-served, nearest to the output first; each names its port.

    A frame for a port that does not exist is taken and dropped.

    Timing
    ------
    Combinational; a link without injection, watching and multicast is wires. Ready depends on the readers' ready only.

    Parameters
    ----------
    network : Network
        Gives the graph.
    plan : Plan
        Whether the host may inject and watch.

    Members
    -------
    host : In, stream of HostEvent
    watched : Out, stream of HostEvent
        Where ``plan.watch``.
    watch : In
        Mask of ports, where ``plan.watch``.
    from_NAME : In, stream of AddressEvent
        What core NAME fires.
    to_NAME, to_1_NAME, ... : Out, stream of AddressEvent
        What core NAME takes, by input.
    spikes : Out, stream of AddressEvent
        What the output layer fires.
    started : Out
        1 in the cycle in which the first token of a frame is offered that will be answered.
    room : In
        Whether one more frame may start.
    """

    def __init__(self, *, network: Network, plan: Plan) -> None:
        self._network = network
        self._plan = plan
        self._stages = stages(network)
        members: dict[str, In | Out] = {
            "host": In(stream.Signature(HostEvent(network))),
            "spikes": Out(stream.Signature(AddressEvent(network.shapes[-1]))),
            "started": Out(1),
            "room": In(1),
        }
        if plan.watch:
            members["watched"] = Out(stream.Signature(HostEvent(network)))
            members["watch"] = In(len(network.layers) + 1)
        for stage in self._stages:
            members[f"from_{stage.name}"] = In(stream.Signature(self._event(stage.name)))
            levels = len(taken_levels(network, stage.layers[0]))
            for number, source in enumerate(stage.sources):
                members[_reader(stage, number)] = Out(stream.Signature(AddressEvent(network.shape_of(source), levels)))
        self.links = {
            name: stream.Signature(self._event(name)).create(path=("link", name))
            for name in ports(network)
        }
        super().__init__(members)

    def _event(self, name: str) -> AddressEvent:
        """What passes on the link called ``name``."""
        return AddressEvent(self._network.shape_of(name), len(carried(self._network)[name]))

    def readers(self, stage: Stage) -> "tuple[stream.Interface, ...]":
        """What the core of ``stage`` takes, by input."""
        return tuple(getattr(self, _reader(stage, number)) for number in range(len(stage.sources)))

    @property
    def network(self) -> Network:
        """The network whose graph it is."""
        return self._network

    @property
    def plan(self) -> Plan:
        """Gives what the host may do."""
        return self._plan

    @property
    def memories(self) -> tuple[BuiltMemory, ...]:
        """The FIFO of what is watched, where something is."""
        if not self._plan.watch:
            return ()
        width = HostEvent(self._network).size
        return (BuiltMemory(name="watch_fifo", width=width, depth=WATCHED_FIFO, kind=DISTRIBUTED),)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        links = ports(self._network)

        # The links, each a stream of its own; then what feeds it, and who reads it.
        link = self.links
        host_valid, host_ready = self._admit_host(m, link)
        for name, port in links.items():
            host_readies = host_ready[name]
            if name == INPUT:
                self._connect_host(m, link[name], host_valid[name], host_readies)
                continue
            core = getattr(self, f"from_{name}")
            if not self._plan.inject:
                m.d.comb += [link[name].valid.eq(core.valid), link[name].payload.eq(core.payload)]
                m.d.comb += core.ready.eq(link[name].ready)
                continue
            with m.If(self._injecting == port):
                self._connect_host(m, link[name], host_valid[name], host_readies)
            with m.Else():
                m.d.comb += [
                    link[name].valid.eq(core.valid),
                    link[name].payload.eq(core.payload),
                    core.ready.eq(link[name].ready),
                ]
        copies = {}
        for name, port in links.items():
            branches: list[Branch] = [
                Branch(reader.valid, reader.ready, self._give(m, name, stage, reader))
                for stage in self._stages
                for source, reader in zip(stage.sources, self.readers(stage), strict=True)
                if source == name
            ]
            if name == self._network.output.name:
                branches.append(Branch(self.spikes.valid, self.spikes.ready))
                m.d.comb += self.spikes.payload.eq(link[name].payload)
            if self._plan.watch:
                # A register stage for each link's copies: whose turn it is does not hold up the link.
                m.submodules[f"copies_{name}"] = buffer = StreamBuffer(payload=link[name].payload.shape())
                copies[name] = buffer.given
                watched = self.watch[port]
                branch = Signal(name=f"copy_branch_{name}")
                m.d.comb += [buffer.taken.valid.eq(branch & watched), buffer.taken.payload.eq(link[name].payload)]
                # The host sees no barriers.
                wants = ~is_barrier(link[name].payload) if carried(self._network)[name] else None
                branches.append(Branch(branch, buffer.taken.ready | ~watched, wants))
            fork(m, name, link[name].valid, link[name].ready, branches)
        if self._plan.watch:
            self._merge_copies(m, copies, links)
        return m

    def _give(self, m: Module, name: str, stage: Stage, reader: stream.Interface) -> Value | None:
        """Give the core of ``stage`` what passes on the link ``name``; whether it wants that, where it is not all of it."""
        token, layer = self.links[name].payload, stage.layers[0]
        if not carried(self._network)[name] and not taken_levels(self._network, layer):
            m.d.comb += reader.payload.eq(token)
            return None
        m.d.comb += [reader.payload[field].eq(token[field]) for field in ("kind", "negative", "y", "x", "c")]
        if not taken_levels(self._network, layer):
            return ~is_barrier(token)
        closing = closed(self._network, name, layer)
        spike = token.kind == Kind.SPIKE
        # An end that closes none ends the frame.
        first: Value = Mux(spike, closing[0], 0)
        if not carried(self._network)[name]:
            m.d.comb += reader.payload.closes.eq(first)
            return None
        found = lookup(m, f"closes_of_{name}_for_{stage.name}", closing, token.closes)
        m.d.comb += reader.payload.closes.eq(Mux(token.closes == 0, first, found))
        return spike | (token.closes == 0) | (found != 0)

    def _connect_host(self, m: Module, link: stream.Interface, valid: Signal, ready: Signal) -> None:
        token = self.host.payload
        m.d.comb += [link.valid.eq(valid), ready.eq(link.ready)]
        m.d.comb += [link.payload[field].eq(token[field]) for field in ("kind", "negative", "y", "x", "c")]

    def _admit_host(
        self, m: Module, link: dict[str, stream.Interface]
    ) -> tuple[dict[str, Signal], dict[str, Signal]]:
        """Let the host's frames in, each to its port; gives each link's valid and ready of the host's token."""
        links = ports(self._network)
        host, token = self.host, self.host.payload
        valid = {name: Signal(name=f"host_valid_{name}") for name in links}
        ready = {name: Signal(name=f"host_ready_{name}") for name in links}
        in_frame, may_start, passes = Signal(), Signal(), Signal()
        is_end, offers, starts = Signal(), Signal(), Signal()
        # A frame starts when its first token is offered: some readers may take it, and pass it on to a leaf even, long
        # before the last one has.
        m.d.comb += [
            is_end.eq(ends_frame(self._network, token)),
            offers.eq(host.valid & may_start),
            passes.eq(host.valid & host.ready),
            starts.eq(offers & ~in_frame),
        ]
        with m.If(offers):
            m.d.sync += in_frame.eq(~(passes & is_end))
        answered = {port: port in answered_ports(self._network) for port in links.values()}
        if not self._plan.inject:
            m.d.comb += [
                may_start.eq(in_frame | self.room),
                valid[INPUT].eq(host.valid & may_start),
                host.ready.eq(ready[INPUT] & may_start),
                self.started.eq(starts),
            ]
            return valid, ready

        # A frame for another port waits until every frame has left by every leaf that it reaches.
        self._injecting = injecting = Signal(token.port.shape())
        leaves = [name for name in links if not any(name in stage.sources for stage in self._stages)]
        busy, full = [], []
        for leaf in leaves:
            frames = Signal(FRAMES_WIDTH, name=f"frames_to_{leaf}")
            reached = _by_port(injecting, {links[name]: leaf in _below(self._network, name) for name in links})
            enters, leaves_now = Signal(name=f"enters_{leaf}"), Signal(name=f"leaves_{leaf}")
            m.d.comb += [
                enters.eq(starts & reached),
                leaves_now.eq(link[leaf].valid & link[leaf].ready & ends_frame(self._network, link[leaf].payload)),
            ]
            m.d.sync += frames.eq(frames + enters - leaves_now)
            busy.append(frames != 0)
            # A cycle late, so a frame early.
            nearly_full = Signal(name=f"nearly_full_{leaf}")
            m.d.sync += nearly_full.eq(frames >= FRAMES_TO_LEAF - 1)
            full.append(nearly_full)
        # An end that has left by a leaf may wait at a link above it, for whoever else reads that.
        waits = Cat(link[name].valid for name in links if name != INPUT).any()
        known = _by_port(injecting, dict.fromkeys(links.values(), True))
        reaches_answer = _by_port(injecting, answered)
        m.d.comb += may_start.eq(
            in_frame | ((token.port == injecting) & ~Cat(full).any() & (self.room | ~reaches_answer))
        )
        with m.If(host.valid & ~in_frame & (token.port != injecting) & ~Cat(busy).any() & ~waits):
            m.d.sync += injecting.eq(token.port)
        m.d.comb += [
            host.ready.eq(may_start & (Cat(ready[n] & (injecting == port) for n, port in links.items()).any() | ~known)),
            self.started.eq(starts & reaches_answer),
        ]
        for name, port in links.items():
            m.d.comb += valid[name].eq(host.valid & may_start & (injecting == port))
        return valid, ready

    def _merge_copies(
        self,
        m: Module,
        copies: dict[str, stream.Interface],
        links: dict[str, int],
    ) -> None:
        layout = HostEvent(self._network)
        m.submodules.watch_fifo = fifo = SyncFIFO(width=layout.size, depth=WATCHED_FIFO)
        copy = Signal(layout)
        m.d.comb += [
            fifo.w_data.eq(copy),
            self.watched.valid.eq(fifo.r_rdy),
            self.watched.payload.eq(fifo.r_data),
            fifo.r_en.eq(self.watched.ready),
        ]
        taken: Value = ~fifo.w_rdy
        for name, given in reversed(copies.items()):
            m.d.comb += given.ready.eq(~taken)
            with m.If(given.valid & ~taken):
                m.d.comb += [fifo.w_en.eq(1), copy.port.eq(links[name])]
                m.d.comb += [copy[f].eq(given.payload[f]) for f in ("kind", "negative", "y", "x", "c")]
            taken = taken | given.valid


def answered_ports(network: Network) -> frozenset[int]:
    """Ports at which a frame that the host sends leads to an answer."""
    return frozenset(port for name, port in ports(network).items() if network.output.name in _below(network, name))


def enters(network: Network, event: Value, *, inject: bool) -> Value:
    """Whether a machine takes ``event`` (`HostEvent`): the port is a way in, and there is such a neuron.

    Without ``inject`` the network's input is the only way in. The end of a frame is at no place.
    """
    found = []
    for name, port in ports(network).items():
        if name == INPUT or inject:
            place = zip((event.y, event.x, event.c), network.shape_of(name), strict=True)
            within = Cat(coordinate < size for coordinate, size in place).all()
            found.append((event.port == port) & ((event.kind == Kind.END) | within))
    return Cat(found).any()


def _reader(stage: Stage, number: int) -> str:
    """The member that gives a core what its input ``number`` takes; no layer's name begins with a digit."""
    return f"to_{number}_{stage.name}" if number else f"to_{stage.name}"


def _below(network: Network, name: str) -> set[str]:
    """The link ``name`` and all that its tokens reach."""
    found = {name}
    for stage in stages(network):
        if any(source in found for source in stage.sources):
            found.add(stage.name)
    return found


def _by_port(port: Signal, of: dict[int, bool]) -> Value:
    return Array(int(of.get(number, False)) for number in range(1 << len(port)))[port]


def fork(m: Module, name: str, valid: Value, ready: Signal, branches: list[Branch]) -> None:
    """Give each token to every branch that wants it once; it leaves when the last one has taken it."""
    if not branches:
        m.d.comb += ready.eq(1)
    elif len(branches) == 1:
        # A link carries nothing that its only reader does not want.
        m.d.comb += [branches[0].valid.eq(valid), ready.eq(branches[0].ready)]
    else:
        taken = Signal(len(branches), name=f"taken_{name}")
        takes = Cat(branch.ready if branch.wants is None else branch.ready | ~branch.wants for branch in branches) | taken
        m.d.comb += ready.eq(takes.all())
        for number, branch in enumerate(branches):
            offered = valid & ~taken[number]
            m.d.comb += branch.valid.eq(offered if branch.wants is None else offered & branch.wants)
        with m.If(valid):
            m.d.sync += taken.eq(takes & ~ready.replicate(len(branches)))
