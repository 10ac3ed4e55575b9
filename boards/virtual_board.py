"""A board without a board: the system's own RTL, compiled by Verilator, its UART on a TCP port.

Every command for a board works on it unchanged, as ``--port socket://localhost:PORT``. It has one client at a time. Time there is
that of the simulation: cycles are those of the board, seconds are not.
"""

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType

from boards.definitions import Board
from boards.listening import LOOPBACK, url_host
from boards.wire import BAUD
from hw.flow.families.ice40 import ICE40
from hw.flow.verilog import system_verilog
from hw.link.flash import flash_image
from hw.link.protocol import SYNC
from model.machine.folded_layout import Folded
from model.machine.plan import Plan
from model.network import Network
from sim.cosimulation import CACHE
from sim.netlist import cell_models
from sim.simulators import SimulationError, build_program

__all__ = ["DIVISOR", "TIMEOUT_BITS", "VirtualBoard"]

DIVISOR = 4
"""Cycles per bit of the wire: as few as there can be, so that the machine and not the wire takes the time."""

TIMEOUT_BITS = 200_000
"""A packet may stand still for so long: a host beside a simulation that is faster than the wire still has its time."""


class VirtualBoard:
    """A simulated board; a context manager, which switches it off at the end.

    Parameters
    ----------
    network, plan : Network, Plan
        What is on it.
    clock_hz : float
        What it says of its clock; by default that at which its wire has `boards.top.BAUD`.
    flash_addr : int | None
        Where the machine looks for weights in a serial flash; None for a board without one.
    flash : bytes
        What that flash holds from there on; it is erased otherwise.
    port : int
        TCP port; 0 for any that is free.
    address : str
        Where it listens: on this machine alone by default.
    tell : Callable[[str], None]
        Told what goes on, as compiling takes a while.

    Raises
    ------
    ToolMissingError : Verilator is not installed
    SimulationError : the build failed, or the port is taken
    """

    def __init__(
        self,
        network: Network,
        plan: Plan,
        *,
        clock_hz: float = DIVISOR * BAUD,
        flash_addr: int | None = None,
        flash: bytes = b"",
        port: int = 0,
        address: str = LOOPBACK,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        tell("writing Verilog")
        text = system_verilog(
            network, plan, CACHE, divisor=DIVISOR, clock_hz=clock_hz, timeout_bits=TIMEOUT_BITS, flash_addr=flash_addr
        )
        tell("compiling (minutes for a large machine; kept for the next time)")
        main = Path(__file__).with_name("virtual.cpp").read_text()
        sources = {"system.v": text}
        if plan.folded and Folded.of(network, plan).single_words:
            sources["cells.v"] = cell_models(["SB_SPRAM256KA"], ICE40)
        defines = {"DIVISOR": DIVISOR, "SYNC": SYNC}
        if flash_addr is not None:
            defines["FLASH_ADDR"] = flash_addr
        program = build_program(top="system", sources=sources, main=main, defines=defines, cache=CACHE)
        pipe = subprocess.PIPE
        with NamedTemporaryFile() as image:
            image.write(flash)
            image.flush()
            self._process = subprocess.Popen(
                [program, address, str(port), image.name], stdin=pipe, stdout=pipe, stderr=pipe, text=True
            )
            assert self._process.stdout is not None and self._process.stderr is not None
            line = self._process.stdout.readline()
        if not line:
            raise SimulationError(f"virtual board, {address}, port {port}: {self._process.stderr.read().strip()}")
        self.address, self.port = address, int(line)

    @classmethod
    def of(
        cls,
        board: Board,
        network: Network,
        plan: Plan,
        *,
        flash: bool = False,
        port: int = 0,
        address: str = LOOPBACK,
        tell: Callable[[str], None] = lambda text: None,
    ) -> "VirtualBoard":
        """``board`` with this machine on it; with ``flash``, weights are in its flash where that is where they are read.

        Raises
        ------
        ToolMissingError, SimulationError : as above
        """
        reads = board.reads_flash(network, plan)
        return cls(
            network,
            plan,
            clock_hz=board.clock().output_hz,
            flash_addr=board.flash_addr if reads else None,
            flash=flash_image(network, plan) if flash and reads else b"",
            port=port,
            address=address,
            tell=tell,
        )

    @property
    def url(self) -> str:
        """What to give as a serial port."""
        return f"socket://{url_host(self.address)}:{self.port}"

    def seconds(self) -> float:
        """Time on its wire since it was switched on, at `boards.wire.BAUD`: a clock for who waits for it, however slow it is.

        Raises
        ------
        SimulationError : it has ended
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise SimulationError(f"virtual board, port {self.port}: it has ended")
        return int(line) / (DIVISOR * BAUD)

    def wait(self) -> int:
        """Wait until it ends; gives its exit code."""
        return self._process.wait()

    def close(self) -> None:
        """Switch it off."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> "VirtualBoard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
