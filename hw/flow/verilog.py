"""Plain Verilog of a component, and RTLIL: the same bytes on every run."""

import gc
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from amaranth.back import rtlil, verilog
from amaranth.lib import wiring

import hw
import model
from hw.link.system import TIMEOUT_BITS, System
from hw.machines import machine_of
from model.machine.plan import Plan
from model.network import Network
from model.support.cache import kept, source_hash

_CONSTANT_BLOCK = re.compile(r"always @\*(\n\s+[^\n;=]+ = \d+'h[0-9a-f]+;)")
_MODULE = re.compile(r"^module .*?^endmodule", re.MULTILINE | re.DOTALL)
_RTLIL_MODULE = re.compile(r"^module .*?^end$", re.MULTILINE | re.DOTALL)
_FREE_MEMORY = re.compile(r"attribute \\no_rw_check 1\n(?:\s*attribute [^\n]*\n)*\s*memory [^\n]*(\\\S+)\n")
_READ_PORT = re.compile(
    r'(cell \$memrd_v2 [^\n]*\n\s*parameter \\MEMID "\\(\\[^"]+)"\n'
    r"(?:\s*parameter (?!\\COLLISION)[^\n]*\n)*\s*parameter \\COLLISION_X_MASK )(\d+)'0+\n"
    r"(?=(?:\s*parameter [^\n]*\n)*\s*parameter \\CLK_ENABLE 1\n)"
)
_NAME = r"(\\\S+ |[A-Za-z_][\w$]*)"
"""An identifier; an escaped one ends with its space."""

_PART = re.compile(rf"^  assign {_NAME}\[(\d+)(?::(\d+))?\] = ([^;]+);\n", re.MULTILINE)
_DECLARED = re.compile(rf"^  (?:wire|reg) \[(\d+):0\] {_NAME};", re.MULTILINE)

__all__ = ["machine_rtlil", "machine_sources", "machine_verilog", "system_verilog", "to_rtlil", "to_verilog", "whole_assignments"]


def to_verilog(component: wiring.Component, name: str) -> str:
    """Verilog of ``component``, its top module called ``name``."""
    with _no_collection():
        text = verilog.convert(component, name=name, strip_internal_attrs=True, emit_src=False)
    # A block that assigns a constant has nothing to wait for: by the standard it never runs, and some simulators
    # take that literally.
    text = _CONSTANT_BLOCK.sub(r"initial\1", text)
    return whole_assignments(text)


def to_rtlil(component: wiring.Component, name: str) -> str:
    """RTLIL of ``component``: what its Verilog is made from, and what is synthesized.

    A table of a memory is one cell there. As Verilog it is a statement a word, which for the weights of a large layer are more
    than the WebAssembly build of Yosys has memory for.
    """
    with _no_collection():
        text = rtlil.convert(component, name=name, emit_src=False)
    return _RTLIL_MODULE.sub(lambda module: _free_collisions(module.group()), text)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python looks for no cycles of garbage: nearly all that Amaranth makes is in use to the end, and looking takes a third."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _free_collisions(module: str) -> str:
    """An RTLIL module in which reads that collide with a write may find anything, of the memories that say so.

    Yosys follows the attribute only where it finds out itself that a memory is read at the clock.
    """
    free = set(_FREE_MEMORY.findall(module))

    def freed(cell: re.Match[str]) -> str:
        if cell[2] not in free:
            return cell[0]
        return f"{cell[1]}{cell[3]}'{'1' * int(cell[3])}\n"

    return _READ_PORT.sub(freed, module) if free else module


def whole_assignments(text: str) -> str:
    """Verilog ``text`` with the nets that are assigned part by part assigned at once.

    Icarus takes a part for a driver of its own and resolves all drivers' strengths at each change, which makes it many
    times slower.
    """
    return _MODULE.sub(lambda module: _whole_in_module(module.group()), text)


def _whole_in_module(module: str) -> str:
    parts: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for net, high, low, value in _PART.findall(module):
        parts[net].append((int(high), int(low or high), value))
    widths = {net: int(high) + 1 for high, net in _DECLARED.findall(module)}
    whole = {}
    for net, pieces in parts.items():
        pieces.sort(reverse=True)
        bounds = [widths.get(net, 0), *(low for _, low, _ in pieces)]
        if bounds[-1] == 0 and all(high + 1 == bound for (high, _, _), bound in zip(pieces, bounds, strict=False)):
            whole[net] = f"  assign {net} = {{ {', '.join(value for _, _, value in pieces)} }};\n"

    def replaced(part: re.Match[str]) -> str:
        if part[1] not in whole:
            return part[0]
        # The whole takes the place of the first part; of the others nothing is left.
        text, whole[part[1]] = whole[part[1]], ""
        return text

    return _PART.sub(replaced, module)


def machine_sources() -> str:
    """SHA-256 of the sources that decide what Verilog a network and plan become: all of `model` and `hw`, but for pages."""
    return source_hash(*(Path(package.__path__[0]) for package in (model, hw)), without=("reports",))


def machine_verilog(network: Network, plan: Plan, cache: Path) -> str:
    """Verilog of the machine, top module ``machine``, kept in the folder ``cache`` by content."""
    return _kept_machine(network, plan, cache, "v", to_verilog).read_text()


def machine_rtlil(network: Network, plan: Plan, cache: Path) -> Path:
    """File with RTLIL of the machine, likewise."""
    return _kept_machine(network, plan, cache, "il", to_rtlil)


def system_verilog(
    network: Network,
    plan: Plan,
    cache: Path,
    *,
    divisor: int,
    clock_hz: float,
    timeout_bits: int = TIMEOUT_BITS,
    flash_addr: int | None = None,
) -> str:
    """Verilog of the `System`, top module ``system``, likewise."""
    path = cache / f"system-{_key(network, plan, divisor, clock_hz, timeout_bits, flash_addr)}.v"

    def make(part: Path) -> None:
        system = System(
            network=network,
            plan=plan,
            divisor=divisor,
            clock_hz=clock_hz,
            timeout_bits=timeout_bits,
            flash_addr=flash_addr,
        )
        part.write_text(to_verilog(system, "system"))

    return kept(path, make).read_text()


def _kept_machine(
    network: Network, plan: Plan, cache: Path, suffix: str, write: Callable[[wiring.Component, str], str]
) -> Path:
    path = cache / f"machine-{_key(network, plan)}.{suffix}"
    return kept(path, lambda part: part.write_text(write(machine_of(network, plan), "machine")))


def _key(network: Network, plan: Plan, *options: object) -> str:
    return hashlib.sha256(f"{network.content_hash} {plan!r} {options} {machine_sources()}".encode()).hexdigest()[:16]
