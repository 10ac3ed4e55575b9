"""The top for a board: PLL, pins, and the `System`."""

from dataclasses import dataclass

from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out

from boards.definitions import Board
from hw.system import System
from model.network import Network
from model.plan import Plan

__all__ = ["BAUD", "BoardTop", "Pll", "pll_for"]

BAUD = 1_000_000
"""Bits a second of the host link."""


@dataclass(frozen=True)
class Pll:
    """Dividers of an ECP5 EHXPLLL, feedback from the primary output (Lattice TN-02200).

    ``output = input / reference * feedback``; the oscillator, ``output * divider``, runs at 400 to 800 MHz.
    """

    reference: int
    feedback: int
    divider: int
    output_hz: float


def pll_for(input_hz: int, wanted_hz: float) -> Pll:
    """Dividers for the greatest frequency that is not above ``wanted_hz``.

    Raises
    ------
    ValueError : where there is none
    """
    found = [
        Pll(reference, feedback, divider, output)
        for reference in range(1, 9)
        for feedback in range(1, 81)
        for divider in range(1, 129)
        if input_hz / reference >= 3.125e6
        and (output := input_hz / reference * feedback) <= wanted_hz
        and 400e6 <= output * divider <= 800e6
    ]
    if not found:
        raise ValueError(
            f"clock must be at least {3.125:g} MHz and within the PLL's reach, not {wanted_hz / 1e6:g} MHz"
        )
    return max(found, key=lambda pll: (pll.output_hz, -pll.reference, -pll.divider))


class BoardTop(wiring.Component):
    """A `System` on a board.

    Parameters
    ----------
    board, network, plan : what to build, and where
    frequency_hz : clock of the machine; the PLL gives the greatest frequency that is not above it

    Members
    -------
    clk : In, the board's oscillator
    rx, tx : In, Out, the host link
    led : Out, the last answer in binary
    """

    def __init__(self, *, board: Board, network: Network, plan: Plan, frequency_hz: float) -> None:
        self._board = board
        self._network = network
        self._plan = plan
        self._pll = pll_for(board.clock_hz, frequency_hz)
        super().__init__({"clk": In(1), "rx": In(1), "tx": Out(1), "led": Out(len(board.led_pins))})

    @property
    def pll(self) -> Pll:
        """The clock."""
        return self._pll

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pll = self._pll
        m.domains.sync = ClockDomain("sync")
        m.domains.plain = ClockDomain("plain", reset_less=True)
        m.domains.synchronized = ClockDomain("synchronized")
        locked = Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{self._board.clock_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{pll.output_hz / 1e6:g}",
            p_CLKI_DIV=pll.reference,
            p_CLKFB_DIV=pll.feedback,
            p_CLKOP_DIV=pll.divider,
            p_CLKOP_CPHASE=pll.divider - 1,
            p_CLKOP_ENABLE="ENABLED",
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=self.clk,
            i_CLKFB=ClockSignal("sync"),
            i_RST=0,
            i_STDBY=0,
            o_CLKOP=ClockSignal("sync"),
            o_LOCK=locked,
        )
        # The reset has a flip-flop behind its synchronizer, so that it can have copies (`hw.fanout`).
        m.submodules.reset = ResetSynchronizer(~locked, domain="synchronized")
        reset = Signal(init=1)
        restart = Signal()
        m.d.plain += reset.eq(ResetSignal("synchronized") | restart)
        m.d.comb += [
            ClockSignal("plain").eq(ClockSignal("sync")),
            ClockSignal("synchronized").eq(ClockSignal("sync")),
            ResetSignal("sync").eq(reset),
        ]
        m.submodules.system = system = System(
            network=self._network, plan=self._plan, divisor=round(pll.output_hz / BAUD)
        )
        m.d.comb += [
            system.rx.eq(self.rx),
            self.tx.eq(system.tx),
            self.led.eq(system.answer),
            restart.eq(system.restart),
        ]
        return m
