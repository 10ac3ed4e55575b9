"""Plain Verilog of a component: the same bytes on every run."""

import hashlib
import re
from collections import defaultdict
from pathlib import Path

from amaranth.back import verilog
from amaranth.lib import wiring

import model.network
from hw.machine import Machine
from model.cache import kept
from model.network import Network
from model.plan import Plan

_CONSTANT_BLOCK = re.compile(r"always @\*(\n\s+[^\n;=]+ = \d+'h[0-9a-f]+;)")
_MODULE = re.compile(r"^module .*?^endmodule", re.MULTILINE | re.DOTALL)
_NAME = r"(\\\S+ |[A-Za-z_][\w$]*)"
"""An identifier; an escaped one ends with its space."""

_PART = re.compile(rf"^  assign {_NAME}\[(\d+)(?::(\d+))?\] = ([^;]+);\n", re.MULTILINE)
_DECLARED = re.compile(rf"^  (?:wire|reg) \[(\d+):0\] {_NAME};", re.MULTILINE)

__all__ = ["machine_verilog", "source_hash", "to_verilog", "whole_assignments"]


def to_verilog(component: wiring.Component, name: str) -> str:
    """Verilog of ``component``, its top module called ``name``."""
    text = verilog.convert(component, name=name, strip_internal_attrs=True, emit_src=False)
    # A block that assigns a constant has nothing to wait for: by the standard it never runs, and some simulators
    # take that literally.
    text = _CONSTANT_BLOCK.sub(r"initial\1", text)
    return whole_assignments(text)


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


def source_hash() -> str:
    """SHA-256 of the sources that decide what Verilog a network and plan become."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, Path(model.network.__file__).parent):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def machine_verilog(network: Network, plan: Plan, cache: Path) -> str:
    """Verilog of the `Machine`, top module ``machine``, kept in the folder ``cache`` by content."""
    key = hashlib.sha256(f"{network.content_hash} {plan!r} {source_hash()}".encode()).hexdigest()[:16]
    path = cache / f"machine-{key}.v"
    return kept(path, lambda part: part.write_text(to_verilog(Machine(network=network, plan=plan), "machine"))).read_text()
