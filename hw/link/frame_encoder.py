"""What all encoders are: pixels of a frame in, its events out."""

from amaranth.hdl import unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent
from model.machine.capability import check_machine_can
from model.network import Network

__all__ = ["FrameEncoder"]


class FrameEncoder(wiring.Component):
    """The streams of an encoder.

    Parameters
    ----------
    network : Network
        Gives the input shape, and the limits above which a pixel fires.

    Members
    -------
    pixels : In, stream of 8 bits
        Raster order ``(y, x, c)``.
    events : Out, stream of AddressEvent
        Of the input.
    """

    def __init__(self, *, network: Network) -> None:
        check_machine_can(network)
        self._network = network
        super().__init__(
            {
                "pixels": In(stream.Signature(unsigned(8))),
                "events": Out(stream.Signature(AddressEvent(network.input_shape))),
            }
        )

    @property
    def network(self) -> Network:
        """Gives the input shape, and the limits above which a pixel fires."""
        return self._network
