"""Copies for the host of what passes on the links that it watches."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.aer import HostEvent
from model.machine.folded_layout import Folded
from model.machine.stages import ports
from model.network import Network

__all__ = ["LinkToken", "Watch"]


class LinkToken(data.StructLayout):
    """What passes on any link.

    Parameters
    ----------
    network : Network
        gives the links

    Members
    -------
    kind, negative, y, x, c : as of `HostEvent`
    """

    def __init__(self, network: Network) -> None:
        event = HostEvent(network)
        super().__init__({name: event[name].shape for name in ("kind", "negative", "y", "x", "c")})


class Watch(wiring.Component):
    """Copies tokens of the watched links.

    Operation
    ---------
    A copy waits in a register until the host takes it. What is watched waits for that register: nothing is lost.

    Timing
    ------
    A copy is valid in the cycle after its token passed; a copy every other cycle at most.

    Parameters
    ----------
    network : Network
        gives the ports
    folded : Folded
        the machine's layers

    Members
    -------
    link : In, range(links)
        0 is the host's, ``n + 1`` that from layer ``n``
    token : In, LinkToken
        what would pass there
    ready : Out, 1 bit
        whether it may
    passes : In, 1 bit
        it does
    watch : In, a bit a port
        mask of watched ports
    watched : Out, stream of HostEvent
        the copies
    """

    def __init__(self, *, network: Network, folded: Folded) -> None:
        self._network = network
        numbers = ports(network)
        self._ports = (numbers["input"], *(numbers[(la.pool or la.layer).name] for la in folded.layers))
        super().__init__(
            {
                "link": In(range(len(self._ports))),
                "token": In(LinkToken(network)),
                "ready": Out(1),
                "passes": In(1),
                "watch": In(len(network.layers) + 1),
                "watched": Out(stream.Signature(HostEvent(network))),
            }
        )

    @property
    def network(self) -> Network:
        """The network whose links these are."""
        return self._network

    def elaborate(self, platform: object) -> Module:
        m = Module()
        copy = self.watched.payload
        wanted, port = Signal(), Signal.like(copy.port)
        for link, number in enumerate(self._ports):
            with m.If(self.link == link):
                m.d.comb += [wanted.eq(self.watch[number]), port.eq(number)]
        m.d.comb += self.ready.eq(~(wanted & self.watched.valid))
        with m.If(self.watched.ready):
            m.d.sync += self.watched.valid.eq(0)
        with m.If(self.passes & wanted):
            m.d.sync += [
                self.watched.valid.eq(1),
                copy.port.eq(port),
                *(copy[name].eq(self.token[name]) for name in self.token.shape().members),
            ]
        return m
