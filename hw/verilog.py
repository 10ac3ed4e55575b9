"""Plain Verilog of a component: the same bytes on every run."""

import hashlib
import re
from pathlib import Path

from amaranth.back import verilog
from amaranth.lib import wiring

import model.network
from hw.machine import Machine
from model.network import Network
from model.plan import Plan

_CONSTANT_BLOCK = re.compile(r"always @\*(\n\s+[^\n;=]+ = \d+'h[0-9a-f]+;)")

__all__ = ["machine_verilog", "source_hash", "to_verilog"]


def to_verilog(component: wiring.Component, name: str) -> str:
    """Verilog of ``component``, its top module called ``name``."""
    text = verilog.convert(component, name=name, strip_internal_attrs=True, emit_src=False)
    # A block that assigns a constant has nothing to wait for: by the standard it never runs, and some simulators
    # take that literally.
    return _CONSTANT_BLOCK.sub(r"initial\1", text)


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
    if not path.exists():
        text = to_verilog(Machine(network=network, plan=plan), "machine")
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(text)
        part.replace(path)
    return path.read_text()
