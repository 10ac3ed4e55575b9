"""Netlists with mutants: Yosys lists places where a fault can be, some are chosen, and all are put in, each behind a number.

Yosys' ``mutate`` changes one bit at a port of a cell: turns it over, holds it, or turns it over where another bit of the port is
0 or 1. With ``-ctrl`` it does so while an input of the netlist has a value, so that many mutants are compiled at once.
"""

import random
import re
import signal
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from hw.flow.tools import find_tool
from model.support.errors import ToolError
from model.support.files import write_file
from sim.mutation.parts import PARTS, part_of, short_source

__all__ = ["MUTANT", "WIDTH", "Mutant", "chosen", "list_mutants", "mutated_verilog", "plain_verilog", "prepare", "run_yosys"]

MUTANT, WIDTH = "mutant", 16
"""The input that says which mutant is active, 0 for none, and its bits."""

_PREPARE = """read_rtlil {source}
hierarchy -top {top}
setattr -set keep 1 {top}/w:trace_*
proc -norom
opt_expr
wreduce t:$dff %n
opt_clean
write_rtlil {prepared}
"""

_WRITE = """memory_collect
write_verilog -norename -noattr {verilog}
"""

_LIST = "mutate -list {count} -seed {seed} -o {listed}\n"

_MOST_OF_A_CELL = 10
"""Mutants of a netlist, by its cells; each cell has some dozens."""

_OPTIONS = ("mode", "module", "cell", "port", "portbit", "ctrlbit")
"""What ``mutate`` takes to make a mutant; what else it lists tells where that is."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault in a netlist.

    Parameters
    ----------
    options : tuple[tuple[str, str], ...]
        Of ``mutate``: how, and at which bit of which port of which cell in which module.
    kind : str
        The type of the cell.
    part : str
        The part of the machine, one of `sim.mutation.parts.PARTS`.
    source : str
        ``file:line`` that the cell comes from.
    """

    options: tuple[tuple[str, str], ...]
    kind: str
    part: str
    source: str

    @property
    def module(self) -> str:
        """The module that it is in, a path of instances."""
        return dict(self.options)["module"]

    @property
    def command(self) -> str:
        """The options as ``mutate`` takes them."""
        return " ".join(f"-{name} {value}" for name, value in self.options)

    def __str__(self) -> str:
        of = dict(self.options)
        by = f" by bit {of['ctrlbit']}" if "ctrlbit" in of else ""
        return f"{self.source} {of['module']} {self.kind} {of['cell']} {of['port']}[{of['portbit']}] {of['mode']}{by}"


def run_yosys(script: str, folder: Path, name: str, *, seconds: int | None = None) -> str:
    """Run Yosys' commands in a folder, and give the output; stopped after so many seconds of processor time, it is no failure.

    A WebAssembly build sees the folder that it runs in and those below: paths in the commands are relative to it.

    Raises
    ------
    ToolError
        Yosys failed.
    """
    write_file(folder / f"{name}.ys", script)
    command = [find_tool("yosys"), "-Q", "-T", "-s", f"{name}.ys"]
    if seconds is not None:
        command = ["sh", "-c", f'ulimit -S -t {seconds}; exec "$@"', "sh", *command]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    log = folder / f"{name}.log"
    write_file(log, done.stdout)
    if done.returncode and not (seconds is not None and done.returncode == -signal.SIGXCPU):
        errors = [line.strip() for line in done.stdout.splitlines() if "ERROR" in line]
        raise ToolError(f"yosys failed: {errors[-1] if errors else f'exit code {done.returncode}'}; see {log}", done.stdout)
    return done.stdout


def prepare(component: wiring.Component, top: str, folder: Path) -> Path:
    """RTLIL of a component in which each cell says where it comes from; what synthesis would take out at once is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "source.il", rtlil.convert(component, name=top, emit_src=True))
    run_yosys(_PREPARE.format(source="source.il", top=top, prepared="prepared.il"), folder, "prepare")
    return folder / "prepared.il"


def list_mutants(prepared: Path, *, count: int, seed: int) -> list[Mutant]:
    """So many faults, spread evenly over the netlist; fewer in a small one.

    Not those that say nothing of a part's logic: at clock and reset, and in tables of constants.
    """
    cells = _cells(prepared.read_text())
    # Yosys takes ever longer to find the last ones of those that there are.
    count = min(count, _MOST_OF_A_CELL * len(cells))
    listed = prepared.with_name("listed.txt")
    script = f"read_rtlil {prepared.name}\n" + _LIST.format(count=count, seed=seed, listed=listed.name)
    run_yosys(script, prepared.parent, "list")
    found = []
    for line in listed.read_text().splitlines():
        words = line.split()
        of = dict(zip(words[1::2], words[2::2], strict=True))
        options = tuple((name, of[f"-{name}"]) for name in _OPTIONS if f"-{name}" in of)
        kind, part, source = cells[(of["-module"], of["-cell"])]
        at_reset = {of["-port"].lower(), of.get("-wire", "")} & {"clk", "rst"}
        # A read port of a memory has resets that nothing drives, and Yosys takes it as one that has none only while they are 0.
        at_reset |= {of["-port"]} & {"ARST", "SRST"} if kind.startswith("$memrd") else set()
        if not at_reset and not kind.startswith("$meminit"):
            found.append(Mutant(options=options, kind=kind, part=part, source=source))
    return found


def chosen(mutants: Sequence[Mutant], *, parts: Sequence[str], count: int, batch: int, seed: int) -> list[Mutant]:
    """One of the batches into which mutants of these parts are drawn: about as many of each part, as long as there are any."""
    by_part: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        by_part[mutant.part].append(mutant)
    chance = random.Random(f"mutants of {seed}")
    each = -(-count // len(parts))
    found: list[Mutant] = []
    for part in sorted(parts, key=PARTS.index):
        drawn = chance.sample(by_part[part], len(by_part[part]))
        found += drawn[batch * each : (batch + 1) * each]
    return found


def mutated_verilog(prepared: Path, mutants: Sequence[Mutant]) -> str:
    """Verilog with an input `MUTANT`, whose value N activates the N-th mutant."""
    commands = [f"mutate -ctrl {MUTANT} {WIDTH} {number} {each.command}\n" for number, each in enumerate(mutants, start=1)]
    return _written(prepared, "".join(commands), "mutated")


def plain_verilog(prepared: Path) -> str:
    """Verilog of the netlist as it is."""
    return _written(prepared, "", "plain")


def _written(prepared: Path, commands: str, name: str) -> str:
    verilog = prepared.with_name(f"{name}.v")
    run_yosys(f"read_rtlil {prepared.name}\n{commands}{_WRITE.format(verilog=verilog.name)}", prepared.parent, name)
    return verilog.read_text()


_LINE = re.compile(
    r'\s*(?:attribute \\src "(?P<src>[^"]*)"|module \\(?P<module>\S+)|cell (?P<kind>\S+) (?P<cell>\S+)|wire |memory )'
)


def _cells(text: str) -> dict[tuple[str, str], tuple[str, str, str]]:
    """Of each cell of RTLIL, by module and name: type, part and place."""
    modules: dict[str, list[str]] = {}
    found: dict[tuple[str, str], tuple[str, str, str]] = {}
    sources: list[str] = []
    module = ""
    for line in text.splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        if match["src"] is not None:
            sources = [short_source(source) for source in match["src"].split("|")]
            continue
        if match["module"]:
            module = match["module"]
            modules[module] = sources
        elif match["cell"]:
            name = match["cell"].removeprefix("\\")
            # What Yosys makes of a process has no place of its own.
            sources = sources or modules[module]
            found[module, name] = (match["kind"].removeprefix("\\"), part_of(sources) or "", _best(sources))
        sources = []
    return {
        (module, name): (kind, part or _part_of_module(module, modules), source)
        for (module, name), (kind, part, source) in found.items()
    }


def _best(sources: list[str]) -> str:
    """The place that says most: one in a part, where there is."""
    return next((source for source in sources if part_of([source])), sources[0] if sources else "?")


def _part_of_module(module: str, modules: dict[str, list[str]]) -> str:
    """The part of the innermost module around that belongs to one; library cells belong to who uses them."""
    path = module
    while path:
        if part := part_of(modules.get(path, [])):
            return part
        path = path.rpartition(".")[0]
    return "machine"
