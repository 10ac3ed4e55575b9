"""Small netlists that count, each simulated on its own."""

import subprocess

from sim.cosimulation import CACHE
from sim.netlist import cell_models, netlist_verilog
from sim.simulators import build_program
from sim.toggling.counting import FILE, counted, read_totals

MAIN = """
#include <cstdio>
#include <cstdlib>
#include "Vmachine.h"
#include "verilated.h"

// A word an input, as NAME lists them; in each cycle all inputs, as one number, the first lowest.
int main(int argc, char** argv) {
  VerilatedContext context;
  Vmachine top{&context};
  for (int n = 1; n < argc; ++n) {
    unsigned long value = std::strtoul(argv[n], nullptr, 16);
    INPUTS
    top.clk = 0;
    top.eval();
    top.clk = 1;
    top.eval();
  }
  top.final();
}
"""


def simulated(module, family, cycles, folder, *, begins="run", marked="mark"):
    """The counts of a module whose inputs of one bit have these values, a dict a cycle; and what is counted."""
    found = counted(module, begins=begins, marked=marked)
    names = [port for port, of in module["ports"].items() if of["direction"] == "input" and port != "clk"]
    kinds = {cell["type"] for cell in module["cells"].values() if cell["type"] != "$scopeinfo"}
    sources = {"machine.v": netlist_verilog(module, "machine", more=found.lines), "cells.v": cell_models(kinds, family)}
    inputs = " ".join(f"top.{name} = value >> {n} & 1;" for n, name in enumerate(names))
    program = build_program(
        top="machine", sources=sources, main=MAIN.replace("INPUTS", inputs), defines={}, cache=CACHE.resolve()
    )
    words = [f"{sum(cycle.get(name, 0) << n for n, name in enumerate(names)):x}" for cycle in cycles]
    folder.mkdir(exist_ok=True)
    subprocess.run([str(program), *words], cwd=folder, check=True)
    return found, read_totals(folder / FILE)


def by_kind(found, total):
    """Of each kind what was counted, and of nets also how many sinks that reached."""
    counts = {}
    for group, count in zip(found.groups, total.counts, strict=True):
        toggles, reached = counts.get(group.kind, (0, 0))
        counts[group.kind] = (toggles + count, reached + count * group.sinks)
    return counts
