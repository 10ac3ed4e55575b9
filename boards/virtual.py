"""`python -m boards.virtual`: a board without a board. The system's own RTL, compiled by Verilator, its UART behind a TCP port.

Every command for a board works on it unchanged, as ``--port socket://localhost:PORT``. Time there is that of the simulation:
cycles are those of the board, seconds are not.
"""

import contextlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType

import click
from rich.console import Console

from boards.definitions import Board, board_named
from boards.top import BAUD
from hw.build import chosen_for
from hw.flow.area import estimate_area
from hw.flow.families.ice40 import ICE40
from hw.flow.verilog import system_verilog
from hw.link.flash import flash_image
from model.machine.folded_layout import Folded
from model.machine.named_plans import load_plan
from model.machine.plan import Plan
from model.network import Network
from model.support.cli import command
from model.support.errors import Exit, fail
from sim.cosimulation import CACHE
from sim.netlist import cell_models
from sim.simulators import SimulationError, build_program

__all__ = ["DIVISOR", "TIMEOUT_BITS", "VirtualBoard"]

DIVISOR = 4
"""Cycles a bit of the wire: as few as there can be, so that the machine and not the wire takes the time."""

TIMEOUT_BITS = 200_000
"""A packet may stand still for so long: a host beside a simulation that is faster than the wire still has its time."""


class VirtualBoard:
    """A simulated board; a context manager, which switches it off at the end.

    Parameters
    ----------
    network, plan : what is on it
    clock_hz : what it says of its clock; by default that at which its wire has `boards.top.BAUD`
    flash_addr : where the machine looks for weights in a serial flash; None for a board without one
    flash : what that flash holds from there on; it is erased otherwise
    port : TCP port on this machine; 0 for any that is free
    tell : told what goes on, as compiling takes a while

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
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        tell("writing Verilog")
        text = system_verilog(
            network, plan, CACHE, divisor=DIVISOR, clock_hz=clock_hz, timeout_bits=TIMEOUT_BITS, flash_addr=flash_addr
        )
        tell("compiling (minutes for a large machine; kept for the next time)")
        main = Path(__file__).with_suffix(".cpp").read_text()
        sources = {"system.v": text}
        if plan.folded and Folded.of(network, plan).single_words:
            sources["cells.v"] = cell_models(["SB_SPRAM256KA"], ICE40)
        defines = {"DIVISOR": DIVISOR}
        if flash_addr is not None:
            defines["FLASH_ADDR"] = flash_addr
        program = build_program(top="system", sources=sources, main=main, defines=defines, cache=CACHE)
        pipe = subprocess.PIPE
        with NamedTemporaryFile() as image:
            image.write(flash)
            image.flush()
            self._process = subprocess.Popen(
                [program, str(port), image.name], stdin=pipe, stdout=pipe, stderr=pipe, text=True
            )
            assert self._process.stdout is not None and self._process.stderr is not None
            line = self._process.stdout.readline()
        if not line:
            raise SimulationError(f"virtual board, port {port}: {self._process.stderr.read().strip()}")
        self.port = int(line)

    @classmethod
    def of(
        cls,
        board: Board,
        network: Network,
        plan: Plan,
        *,
        flash: bool = False,
        port: int = 0,
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
            tell=tell,
        )

    @property
    def url(self) -> str:
        """What to give as a serial port."""
        return f"socket://localhost:{self.port}"

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


@command(help="Run a board in simulation, its UART behind a TCP port. Stop it with Ctrl-C.")
@click.option("--board", default="ulx3s-85f", show_default=True, metavar="BOARD", help="What it stands for.")
@click.option("--net", type=click.Path(path_type=Path), help="Network (.npz); the bundled one for the board by default.")
@click.option("--plan", "plan_name", help="minimal, default, fast, folded, or a .json file; the board's by default.")
@click.option("--states/--no-states", default=None, help="Whether the host can read membrane potentials; as the plan says.")
@click.option("--flash/--no-flash", help="Whether its flash holds the weights, as hw.build --program-flash writes them.")
@click.option("--port", default=4567, show_default=True, type=click.IntRange(0, 65535), help="TCP port; 0 for a free one.")
def main(board: str, net: Path | None, plan_name: str | None, states: bool | None, flash: bool, port: int) -> None:
    """See the help text above."""
    console = Console(stderr=True)
    device = board_named(board)
    net, plan_name = chosen_for(device, net, plan_name)
    network = Network.load(net)
    plan = load_plan(network, plan_name)
    if states is not None:
        plan = replace(plan, states=states)
    short = []
    if plan.folded:
        short = device.short_of_folded(Folded.of(network, plan))
    elif device.of_family.HAS_AREA_MODEL:
        area = estimate_area(network, plan)
        short = device.short_of(luts=area.luts, ram_blocks=area.ram_blocks)
    if short:
        fail(Exit.DOES_NOT_FIT, f"does not fit {device.title}: short of {' and '.join(short)}")
    if flash and not device.reads_flash(network, plan):
        fail(Exit.BAD_INPUT, f"--flash must not be given: no weights of plan {plan.name} on {device.title} are in a flash")
    with console.status("virtual board") as status:
        machine = VirtualBoard.of(device, network, plan, flash=flash, port=port, tell=status.update)
    with machine, contextlib.suppress(KeyboardInterrupt):
        print(f"{device.title}: {network.name}, plan {plan.name}, at {machine.url}", flush=True)
        sys.exit(machine.wait())


if __name__ == "__main__":
    main()
