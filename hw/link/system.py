"""The machine with its link: two wires to a host, and nothing that depends on a board."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.folded.machine import FoldedMachine
from hw.link.encoders import encoder_of
from hw.link.flash import FLASH_PORTS, FlashReader
from hw.link.link import Link
from hw.link.scan_encoder import ScanEncoder
from hw.machines import machine_of
from hw.parts.buffer import StreamBuffer
from hw.parts.uart import UartReceiver, UartTransmitter
from model.machine.plan import Plan
from model.network import Network, Neurons

__all__ = ["TIMEOUTS_A_SECOND", "TIMEOUT_BITS", "System"]

TIMEOUTS_A_SECOND = 10
"""A packet may stand still for a tenth of a second, which is more than USB needs between two bytes."""

TIMEOUT_BITS = 1_000_000 // TIMEOUTS_A_SECOND
"""So many bits, at a million bits per second."""

_SETTLE_BITS = 400
"""More than the answer to a reset takes, and a watched event before it."""


class System(wiring.Component):
    """A machine with a UART: frames of pixels or lists of events in, answers out (docs/link.md).

    Parameters
    ----------
    network, plan : Network, Plan
        What to build.
    divisor : int
        Clock cycles a UART bit.
    clock_hz : float
        Cycles per second, which the host is told.
    timeout_bits : int
        For how many bits a packet that has begun may stand still; more than 400, for which a line is silent before a restart.
    flash_addr : int | None
        Where weights that have to be loaded are in a serial flash, in bytes; None where nothing is.

    Members
    -------
    rx : In
        From the host.
    tx : Out
        To the host.
    answer : Out
        The last class, for LEDs.
    restart : Out
        1 where all of it is to be reset, at the host's wish.
    flash_select_n, flash_clock, flash_copi, flash_cipo : Out, and In
        To and from the flash, where there is one.
    """

    def __init__(
        self,
        *,
        network: Network,
        plan: Plan,
        divisor: int,
        clock_hz: float,
        timeout_bits: int = TIMEOUT_BITS,
        flash_addr: int | None = None,
    ) -> None:
        if timeout_bits <= _SETTLE_BITS:
            raise ValueError(f"timeout_bits must be more than {_SETTLE_BITS}, not {timeout_bits!r}")
        self._network = network
        self._plan = plan
        self._divisor = divisor
        self._clock_hz = clock_hz
        self._timeout_bits = timeout_bits
        self._flash_addr = flash_addr
        members = {"rx": In(1, init=1), "tx": Out(1, init=1), "answer": Out(range(network.classes)), "restart": Out(1)}
        super().__init__(members if flash_addr is None else members | FLASH_PORTS)

    @property
    def flash_addr(self) -> int | None:
        """Where weights are in a serial flash."""
        return self._flash_addr

    @property
    def divisor(self) -> int:
        """Clock cycles a UART bit."""
        return self._divisor

    def elaborate(self, platform: object) -> Module:
        m = Module()
        network, watch = self._network, self._plan.watch
        neuron_layers = sum(isinstance(layer, Neurons) for layer in network.layers)
        m.submodules.receiver = receiver = UartReceiver(divisor=self._divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self._divisor)
        m.submodules.machine = machine = machine_of(network, self._plan)
        folded = machine.folded if isinstance(machine, FoldedMachine) else None
        weights = folded if folded and folded.single_weight_words else None
        m.submodules.link = link = Link(
            network=network,
            plan=self._plan,
            clock_hz=self._clock_hz,
            saturations=neuron_layers,
            timeout=self._timeout_bits * self._divisor,
            settle=_SETTLE_BITS * self._divisor,
            lean=folded is not None,
            weights=weights,
        )
        m.submodules.encoder = encoder = ScanEncoder(network=network) if folded else encoder_of(network)
        m.d.comb += [receiver.line.eq(self.rx), self.tx.eq(transmitter.line)]
        if self._flash_addr is None:
            wiring.connect(m, receiver.data, link.received)
        else:
            self._read_flash(m, receiver, link)
        wiring.connect(m, link.pixels, encoder.pixels)
        wiring.connect(m, link.host, machine.host)
        m.d.comb += [
            link.saturations.eq(machine.saturations),
            link.lost.eq(receiver.errors),
            receiver.unheard.eq(link.deaf),
            self.restart.eq(link.restart),
        ]
        if weights:
            wiring.connect(m, link.weights, machine.weights)
        if self._plan.states:
            wiring.connect(m, link.states, machine.states)
        if self._plan.weight_check:
            m.d.comb += [link.weight_passes.eq(machine.weight_passes), link.weights_differ.eq(machine.weights_differ)]
        # The link is in no hurry: where it meets the fast part of the machine, paths end. A folded machine is small before it is
        # fast.
        passages = {
            "sent": (link.sent, transmitter.data),
            "encoded": (encoder.events, link.encoded),
            "result": (machine.result, link.result),
        }
        if watch:
            passages["watched"] = (machine.watched, link.watched)
            m.d.comb += machine.watch.eq(link.watch_mask)
        for name, (source, sink) in passages.items():
            if folded:
                wiring.connect(m, source, sink)
                continue
            m.submodules[f"{name}_buffer"] = buffer = StreamBuffer(payload=source.payload.shape())
            wiring.connect(m, source, buffer.taken)
            wiring.connect(m, buffer.given, sink)
        with m.If(machine.result.valid & machine.result.ready):
            m.d.sync += self.answer.eq(machine.result.payload.answer)
        return m

    def _read_flash(self, m: Module, receiver: UartReceiver, link: Link) -> None:
        """What the flash holds is the link's before anything of the host's, which is lost meanwhile."""
        assert self._flash_addr is not None
        m.submodules.flash = flash = FlashReader(addr=self._flash_addr, clock_hz=self._clock_hz)
        m.d.comb += [
            self.flash_select_n.eq(flash.select_n),
            self.flash_clock.eq(flash.clock),
            self.flash_copi.eq(flash.copi),
            flash.cipo.eq(self.flash_cipo),
            flash.stop.eq(link.stop),
            link.loads_only.eq(flash.active),
            link.received.valid.eq(Mux(flash.active, flash.data.valid, receiver.data.valid)),
            link.received.payload.eq(Mux(flash.active, flash.data.payload, receiver.data.payload)),
            flash.data.ready.eq(link.received.ready),
            receiver.data.ready.eq(link.received.ready | flash.active),
        ]
