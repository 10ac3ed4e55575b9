"""The top for a board: clock, pins, and the `System`."""

from math import ceil

from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from boards.definitions import Board
from boards.wire import BAUD
from hw.flow.families.base import Clock
from hw.link.flash import FLASH_PORTS
from hw.link.system import TIMEOUTS_A_SECOND, System
from model.machine.plan import Plan
from model.network import Network
from model.support.errors import BadInputError

__all__ = ["BAUD", "BoardTop", "bit_cycles"]

_WRONG_BAUD = 0.02
"""How far a bit may be from its length: a byte is sampled ten times from one edge, and the other side has its own error."""


def bit_cycles(clock_hz: float, baud: int) -> int:
    """Clock cycles of a UART bit.

    Raises
    ------
    BadInputError : no whole number of cycles, at least 4, is near enough
    """
    divisor = max(4, round(clock_hz / baud))
    if abs(clock_hz / divisor / baud - 1) > _WRONG_BAUD:
        below = clock_hz / (divisor + (clock_hz / divisor > baud))
        raise BadInputError(
            f"baud must be within {_WRONG_BAUD:.0%} of {clock_hz / 1e6:g} MHz by a whole number from 4 on (as {below:,.0f}), "
            f"not {baud}"
        )
    return divisor


class BoardTop(wiring.Component):
    """A `System` on a board.

    Operation
    ---------
    The machine is in reset until its clock is steady, and until the device's memory blocks can be read.

    Parameters
    ----------
    board, network, plan : Board, Network, Plan
        What to build, and where.
    frequency_hz : float
        Clock of the machine; it gets the greatest frequency that is not above it.
    baud : int
        Bits per second of the host link.

    Members
    -------
    clk : In
        The board's oscillator.
    rx, tx : In, Out
        The host link.
    led : Out
        The last answer in binary; inverted where the board's LEDs light at 0.
    flash_select_n, flash_clock, flash_copi, flash_cipo : Out, and In
        A serial flash, where the board's definition has its pins.

    Attributes
    ----------
    reset : Signal
        1 while the machine is in reset.
    """

    def __init__(self, *, board: Board, network: Network, plan: Plan, frequency_hz: float, baud: int = BAUD) -> None:
        self._board = board
        self._network = network
        self._plan = plan
        self._pll = board.clock(frequency_hz)
        self._baud = baud
        self._divisor = bit_cycles(self._pll.output_hz, baud)
        self.reset = Signal(init=1)
        members = {"clk": In(1), "rx": In(1), "tx": Out(1), "led": Out(len(board.led_pins))}
        super().__init__(members | FLASH_PORTS if board.flash_pins else members)

    @property
    def pll(self) -> Clock:
        """The clock."""
        return self._pll

    def elaborate(self, platform: object) -> Module:
        m = Module()
        board, pll = self._board, self._pll
        m.domains.sync = ClockDomain("sync")
        m.domains.plain = ClockDomain("plain", reset_less=True)
        m.domains.synchronized = ClockDomain("synchronized")
        locked = Signal()
        m.submodules.pll = pll.instance(
            input_hz=board.clock_hz, source=self.clk, clock=ClockSignal("sync"), locked=locked
        )
        steady = locked
        if board.of_family.SETTLE_SECONDS:
            # It starts at configuration, and stands still at its end.
            cycles = ceil(board.of_family.SETTLE_SECONDS * pll.output_hz)
            settling = Signal(bits_for(cycles))
            steady = Signal()
            m.d.comb += steady.eq(locked & (settling == cycles))
            with m.If(settling != cycles):
                m.d.plain += settling.eq(settling + 1)
        # The reset has two flip-flops after its synchronizer: the second has hundreds of copies (`hw.flow.split_fan_out`), which
        # only copies of a flip-flop reach across a device in a cycle.
        m.submodules.reset = ResetSynchronizer(~steady, domain="synchronized")
        reset = self.reset
        asked, restart = Signal(init=1), Signal()
        m.d.plain += [asked.eq(ResetSignal("synchronized") | restart), reset.eq(asked)]
        m.d.comb += [
            ClockSignal("plain").eq(ClockSignal("sync")),
            ClockSignal("synchronized").eq(ClockSignal("sync")),
            ResetSignal("sync").eq(reset),
        ]
        reads_flash = board.reads_flash(self._network, self._plan)
        m.submodules.system = system = System(
            network=self._network,
            plan=self._plan,
            divisor=self._divisor,
            clock_hz=pll.output_hz,
            timeout_bits=self._baud // TIMEOUTS_A_SECOND,
            flash_addr=board.flash_addr if reads_flash else None,
        )
        if reads_flash:
            m.d.comb += [
                self.flash_select_n.eq(system.flash_select_n),
                self.flash_clock.eq(system.flash_clock),
                self.flash_copi.eq(system.flash_copi),
                system.flash_cipo.eq(self.flash_cipo),
            ]
        elif board.flash_pins:
            m.d.comb += self.flash_select_n.eq(1)
        lit: Value = system.answer
        if board.leds_low:
            answer = Signal(len(self.led))
            m.d.comb += answer.eq(system.answer)
            lit = ~answer
        m.d.comb += [
            system.rx.eq(self.rx),
            self.tx.eq(system.tx),
            self.led.eq(lit),
            restart.eq(system.restart),
        ]
        return m
