"""Copies for the host of what passes on the links that it watches."""

from amaranth.hdl import Module, Mux, Signal
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
    layer : In, range(layers)
        number of the layer in use
    token : In, LinkToken
        what would pass, on the link from the host or from that layer
    host_ready, layer_ready : Out, 1 bit
        whether it may pass there
    host_passes, layer_passes : In, 1 bit
        it does
    watch : In, a bit per port
        mask of watched ports
    watched : Out, stream of HostEvent
        the copies
    """

    def __init__(self, *, network: Network, folded: Folded) -> None:
        self._network = network
        self._folded = folded
        super().__init__(
            {
                "layer": In(range(max(2, len(folded.layers)))),
                "token": In(LinkToken(network)),
                "host_ready": Out(1),
                "layer_ready": Out(1),
                "host_passes": In(1),
                "layer_passes": In(1),
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
        copy, port_of = self.watched.payload, ports(self._network)
        host_port, layer_port = port_of["input"], Signal.like(self.watched.payload.port)
        layer_is_watched = Signal()
        for number, la in enumerate(self._folded.layers):
            port = port_of[(la.pool or la.layer).name]
            with m.If(self.layer == number):
                m.d.comb += [layer_is_watched.eq(self.watch[port]), layer_port.eq(port)]
        m.d.comb += [
            self.host_ready.eq(~(self.watch[host_port] & self.watched.valid)),
            self.layer_ready.eq(~(layer_is_watched & self.watched.valid)),
        ]
        with m.If(self.watched.ready):
            m.d.sync += self.watched.valid.eq(0)
        with m.If((self.host_passes & self.watch[host_port]) | (self.layer_passes & layer_is_watched)):
            m.d.sync += [
                self.watched.valid.eq(1),
                copy.port.eq(Mux(self.host_passes, host_port, layer_port)),
                *(copy[name].eq(self.token[name]) for name in self.token.shape().members),
            ]
        return m
