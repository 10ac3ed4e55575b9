"""A host at the two wires of a simulated system, whose time is that of the simulation and of nothing else."""

import subprocess
from pathlib import Path
from types import TracebackType

from hw.flow.families.ice40 import ICE40
from hw.flow.verilog import system_verilog
from hw.link.protocol import HEADER_BYTES, SYNC, Command, crc8, load_payloads, packet
from model.machine.folded_layout import Folded
from model.machine.plan import Plan
from model.network import Network
from sim.cosimulation import CACHE
from sim.netlist import cell_models
from sim.simulators import build_program

__all__ = ["CLOCK_HZ", "DIVISOR", "TIMEOUT", "TIMEOUT_BITS", "Packet", "SimulatedWire"]

DIVISOR = 4
CLOCK_HZ = 4e6
TIMEOUT_BITS = 2000
TIMEOUT = TIMEOUT_BITS * DIVISOR
"""Cycles for which a packet may stand still."""

_SILENT = 200 * TIMEOUT
"""Cycles without a byte after which what is waited for does not come any more."""

Packet = tuple[int, int, bytes]
"""Sequence number, command and payload."""


_programs: dict[tuple[str, str, int, bool], Path] = {}
"""Of networks' content hashes, plans, patience and how it is compiled: switched on again, a system is the same program."""


def _program(network: Network, plan: Plan, timeout_bits: int, runs_long: bool) -> Path:
    sources = {
        "system.v": system_verilog(network, plan, CACHE, divisor=DIVISOR, clock_hz=CLOCK_HZ, timeout_bits=timeout_bits)
    }
    if plan.folded and Folded.of(network, plan).single_words:
        sources["cells.v"] = cell_models(["SB_SPRAM256KA"], ICE40)
    main = Path(__file__).with_suffix(".cpp").read_text()
    defines = {"DIVISOR": DIVISOR}
    return build_program(top="system", sources=sources, main=main, defines=defines, cache=CACHE, runs_long=runs_long)


class SimulatedWire:
    """A system just switched on; a context manager, which ends the simulation.

    Parameters
    ----------
    network, plan : Network, Plan
        what is in the system
    timeout_bits : int
        for how many bits a packet may stand still
    runs_long : bool
        whether it is worth while to compile it to a program that is fast
    """

    def __init__(self, network: Network, plan: Plan, *, timeout_bits: int = TIMEOUT_BITS, runs_long: bool = False) -> None:
        key = network.content_hash, repr(plan), timeout_bits, runs_long
        if key not in _programs:
            _programs[key] = _program(network, plan, timeout_bits, runs_long)
        self._process = subprocess.Popen([_programs[key]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._kept = b""
        self.cycles = 0

    def __enter__(self) -> "SimulatedWire":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def load(self, network: Network, plan: Plan) -> None:
        """Load the weights that have to be."""
        folded = Folded.of(network, plan) if plan.folded else None
        if folded and folded.single_weight_words:
            for payload in load_payloads(network, folded.single_weights(), first=folded.single_state_words):
                self.send(packet(0, Command.LOAD, payload))
                assert self.receive(1) == [(0, Command.LOAD, b"")]
            self.send(packet(0, Command.CHECK))
            assert self.receive(1)[0][2][-1] == 1

    def send(self, data: bytes) -> None:
        """Put bytes on the wire, after those that are still to be sent."""
        assert self._process.stdin is not None
        if data:
            self._process.stdin.write(f"send {data.hex()}\n")

    def run(self, cycles: int) -> None:
        """Let time pass."""
        self._run(cycles, cycles)

    def quiet(self, cycles: int = 3 * TIMEOUT, *, after: int | None = None) -> list[Packet]:
        """Let time pass until the wires have been idle for so long; gives the packets that came.

        Parameters
        ----------
        cycles : int
            for how long
        after : int, optional
            for how long where something came; as ``cycles`` by default
        """
        self._run(cycles, _SILENT, after)
        return self._packets()

    def receive(self, count: int) -> list[Packet]:
        """Let time pass until so many packets have come."""
        found: list[Packet] = []
        end = self.cycles + _SILENT
        while len(found) < count:
            assert self.cycles < end, f"{len(found)} packets in place of {count}: {found}"
            before = len(self._kept)
            self._run(100 * DIVISOR, _SILENT)
            if len(self._kept) > before:
                end = self.cycles + _SILENT
            found += self._packets()
        return found

    def _run(self, quiet: int, most: int, after: int | None = None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"quiet {quiet} {most} {quiet if after is None else after}\n")
        self._process.stdin.flush()
        cycles, _, came = self._process.stdout.readline().strip().partition(" ")
        self.cycles = int(cycles)
        self._kept += bytes.fromhex(came)

    def _packets(self) -> list[Packet]:
        """The packets that are there, whole, and nothing between them."""
        found = []
        data = self._kept
        while len(data) > HEADER_BYTES and len(data) >= (size := HEADER_BYTES + 1 + int.from_bytes(data[3:5], "little")):
            assert data[0] == SYNC and crc8(data[1:size]) == 0, data.hex()
            found.append((data[1], data[2], data[HEADER_BYTES : size - 1]))
            data = data[size:]
        assert not data or data[0] == SYNC
        self._kept = data
        return found
