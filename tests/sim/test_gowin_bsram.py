"""Our models of Gowin's cells: block RAMs against a plain memory over random accesses, the ALU against the model of Yosys."""

import random
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import sim.netlist
from hw.flow.tools import yosys_share
from sim.netlist import GOWIN_BLOCK_RAM

ALU = Path(sim.netlist.__file__).parent / "cells" / "gowin_alu.v"

STEPS = 600

ADDRESS_BITS = {1: 0, 2: 1, 4: 2, 8: 3, 9: 3, 16: 4, 18: 4, 32: 5, 36: 5}
"""Of each width, the bits of an address that are not of the word."""

SELECT = {"A": 5, "B": 2}
"""The level of BLKSEL at which each port works."""


def compiled(folder, bench, model, *options):
    """What a bench prints, simulated in Icarus with the text of a model."""
    if not shutil.which("iverilog"):
        pytest.skip("iverilog is not installed; get it with: apt-get install iverilog")
    (folder / "bench.v").write_text(bench)
    (folder / "model.v").write_text(model)
    for command in (["iverilog", "-g2005", *options, "-s", "bench", "-o", "bench", "bench.v", "model.v"], ["vvp", "bench"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.splitlines()


@dataclass(frozen=True)
class Case:
    """A block RAM: its kind, the widths of ports A and B, their write modes, the mode of its resets."""

    kind: str
    widths: tuple[int, int]
    modes: tuple[int, int] = (0, 0)
    reset: str = "SYNC"

    @property
    def byte(self):
        return 9 if "X9" in self.kind else 8

    @property
    def ports(self):
        return "A" if self.kind.startswith("SP") else "AB"

    @property
    def writers(self):
        return "AB" if self.kind.startswith("DP") else "A"

    @property
    def readers(self):
        return "B" if self.kind.startswith("SDP") else self.ports

    @property
    def bus(self):
        """Bits of the data pins of a port."""
        return self.byte * (2 if self.kind.startswith("DP") else 4)

    def parameters(self):
        select = {port: f"3'd{level}" for port, level in SELECT.items()}
        if self.kind.startswith("SP"):
            given = {"BIT_WIDTH": self.widths[0], "WRITE_MODE": self.modes[0], "BLK_SEL": select["A"]}
        else:
            given = {
                "BIT_WIDTH_0": self.widths[0], "BIT_WIDTH_1": self.widths[1],
                "BLK_SEL_0": select["A"], "BLK_SEL_1": select["B"],
            }
        if self.kind.startswith("DP"):
            given |= {"WRITE_MODE0": self.modes[0], "WRITE_MODE1": self.modes[1]}
        return given | {"RESET_MODE": f'"{self.reset}"'}

    def pins(self):
        """Pin by name of ours: that of the cell."""
        if self.kind.startswith("SP"):
            return {"CLK": "CLK", "ADA": "AD", "DIA": "DI", "CEA": "CE", "WREA": "WRE", "BLKSELA": "BLKSEL", "RESETA": "RESET",
                    "DOA": "DO"}
        pins = {name: name for port in "AB" for name in (f"AD{port}", f"CE{port}", f"BLKSEL{port}", f"RESET{port}")}
        if self.kind.startswith("SDP"):
            return pins | {"DIA": "DI", "DOB": "DO"}
        return pins | {name: name for port in "AB" for name in (f"DI{port}", f"DO{port}", f"WRE{port}")}


@dataclass
class Memory:
    """What a block does: a memory as bits, of which word n of a port of w bits is those from n * w on. None is garbage."""

    case: Case
    bits: list
    inverse: bool
    out: dict = field(default_factory=lambda: {"A": [0] * 36, "B": [0] * 36})
    seen: Counter = field(default_factory=Counter)

    def clear(self, step):
        for port in self.case.readers:
            if step[f"RESET{port}"]:
                self.out[port] = [0] * 36
                self.seen["reset"] += 1

    def clock(self, step):
        words, written, on = {}, {"A": {}, "B": {}}, {}
        for port, width in zip("AB", self.case.widths, strict=True):
            if port not in self.case.ports:
                continue
            addr = step[f"AD{port}"]
            first = (addr >> ADDRESS_BITS[width]) * width
            words[port] = range(first, first + width)
            on[port] = step[f"CE{port}"] and step[f"BLKSEL{port}"] == SELECT[port]
            writes = on[port] and port in self.case.writers and step.get(f"WRE{port}", 1)
            if writes:
                enabled = [width < 2 * self.case.byte or addr >> n // self.case.byte & 1 for n in range(width)]
                self.seen["part"] += any(enabled) and not all(enabled)
                written[port] = {
                    bit: step[f"DI{port}"] >> n & 1 for n, bit in enumerate(words[port]) if enabled[n]
                }
            self.seen["write"] += bool(writes)
        for port, other in zip("AB", "BA", strict=True):
            if port in self.case.readers and on[port] and not step[f"RESET{port}"]:
                mode = self.case.modes["AB".index(port)]
                writes = port in self.case.writers and step[f"WRE{port}"]
                if writes and mode == 0:
                    self.seen["kept"] += 1
                    continue
                shown = []
                for bit in words[port]:
                    value = written[port].get(bit, self.bits[bit]) if mode == 1 else self.bits[bit]
                    if bit in written[other]:
                        value = 1 - value if self.inverse else None
                        self.seen["collision"] += 1
                    shown.append(value)
                self.seen["garbage"] += None in shown
                self.out[port] = shown + [0] * (36 - len(shown))
        for port in self.case.writers:
            for bit, value in written[port].items():
                self.bits[bit] = value
        for bit in written["A"].keys() & written["B"].keys():
            self.bits[bit] = 1 - self.bits[bit] if self.inverse else None
            self.seen["both"] += 1

    def shown(self):
        out = (self.out[port] for port in self.case.readers)
        return " ".join("".join("x" if bit is None else str(bit) for bit in reversed(bits)) for bits in out)


def accesses(case, rng):
    """Reads of the first and the last word, then random accesses, most of them close together, so that ports meet."""
    near = [rng.randrange(1 << 14) & ~0x7F for _ in range(2)]
    steps = []
    for _ in range(STEPS):
        step = {}
        for port in case.ports:
            addr = rng.choice(near) | rng.randrange(128) if rng.random() < 0.9 else rng.randrange(1 << 14)
            step |= {
                f"AD{port}": addr,
                f"CE{port}": int(rng.random() < 0.9),
                f"BLKSEL{port}": SELECT[port] if rng.random() < 0.9 else rng.randrange(8),
                # What it does at a port that only writes, nothing relies on.
                f"RESET{port}": int(port in case.readers and rng.random() < 0.05),
            }
            if port in case.writers:
                step[f"DI{port}"] = rng.getrandbits(case.bus)
            if port in case.writers and port in case.readers:
                step[f"WRE{port}"] = rng.randrange(2)
        steps.append(step)
    for step, addr in zip(steps, (0, (1 << 14) - 1), strict=False):
        for port in case.ports:
            reads = {"AD": addr, "CE": int(port in case.readers), "BLKSEL": SELECT[port], "RESET": 0, "WRE": 0}
            step.update({f"{pin}{port}": level for pin, level in reads.items() if f"{pin}{port}" in step})
    return steps


def run(folder, case, model, *, inverse=False, seed=1):
    """What the memory says, what the model does, before and after each clock edge, and what came to pass."""
    rng = random.Random(seed)
    contents = rng.getrandbits(2048 * case.byte)
    size = 32 * case.byte
    memory = Memory(case, [contents >> n & 1 for n in range(2048 * case.byte)], inverse)
    steps = accesses(case, rng)
    expected = [memory.shown()]
    for step in steps:
        if case.reset == "ASYNC":
            memory.clear(step)
        expected.append(memory.shown())
        memory.clock(step)
        memory.clear(step)
        expected.append(memory.shown())
    pins = case.pins()
    widths = {"AD": 14, "DI": case.bus, "DO": case.bus, "BLKSEL": 3}
    names = list(steps[0])
    packed = [(name, widths.get(name.rstrip("AB"), 1)) for name in names]
    rows = []
    for step in steps:
        value = 0
        for name, width in packed:
            value = value << width | step[name]
        rows.append(f"{value:x}\n")
    (folder / "steps.txt").write_text("".join(rows))
    total = sum(width for _, width in packed)
    clocks = ["CLK"] if case.ports == "A" else ["CLKA", "CLKB"]
    connected = [
        *(f".{clock}(clk)" for clock in clocks),
        *(f".{pin}({name})" for name, pin in pins.items() if name in names or name.startswith("DO")),
    ]
    given = case.parameters() | {f"INIT_RAM_{n:02X}": f"{size}'h{contents >> n * size & (1 << size) - 1:x}" for n in range(64)}
    shown = [f"{{{36 - case.bus}'b0, DO{port}}}" if case.bus < 36 else f"DO{port}" for port in case.readers]
    show = f'$display("{" ".join("%b" for _ in shown)}", {", ".join(shown)});'
    outputs = " ".join(f"wire [{case.bus - 1}:0] DO{port};" for port in case.readers)
    bench = f"""
module bench;
  reg clk; {" ".join(f"reg [{width - 1}:0] {name};" for name, width in packed)} {outputs}
  reg [{total - 1}:0] steps [0:{STEPS - 1}];
  integer n;
  {case.kind} #({", ".join(f".{name}({value})" for name, value in given.items())}) dut({", ".join(connected)});
  initial begin
    $readmemh("steps.txt", steps);
    {{{", ".join(names)}}} = 0;
    clk = 0;
    #1 {show}
    for (n = 0; n < {STEPS}; n = n + 1) begin
      {{{", ".join(names)}}} = steps[n];
      #1 {show}
      clk = 1;
      #1 {show}
      clk = 0;
    end
  end
endmodule
"""
    lines = compiled(folder, bench, model, *(["-DVERILATOR"] if inverse else []))
    return expected, [line for line in lines if re.fullmatch("[01xz ]+", line)], memory.seen


CASES = [
    *(Case("SP", (width, width), (mode, 0)) for width, mode in ((1, 0), (2, 1), (4, 2), (8, 0), (16, 1), (32, 2), (32, 0))),
    *(Case("SPX9", (width, width), (mode, 0)) for width, mode in ((9, 0), (9, 2), (18, 1), (36, 2))),
    *(Case("SDPB", widths) for widths in ((1, 1), (8, 2), (4, 32), (32, 16), (32, 32))),
    *(Case("SDPX9B", widths) for widths in ((36, 36), (9, 36), (36, 9), (18, 18))),
    *(Case("DPB", widths, (1, 1)) for widths in ((4, 4), (1, 16), (16, 8), (2, 2))),
    *(Case("DPX9B", widths, modes) for widths, modes in (((9, 9), (1, 1)), ((18, 18), (1, 1)), ((18, 9), (0, 1)))),
    Case("SPX9", (9, 9), (2, 0), reset="ASYNC"),
    Case("SDPX9B", (36, 36), reset="ASYNC"),
    Case("DPX9B", (18, 18), (1, 1), reset="ASYNC"),
]


def named(case):
    return f"{case.kind}-{case.widths[0]}-{case.widths[1]}-{case.modes[0]}{case.modes[1]}-{case.reset}"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_block_does_as_a_plain_memory(case, tmp_path):
    expected, found, seen = run(tmp_path, case, GOWIN_BLOCK_RAM.read_text())
    assert len(found) == 2 * STEPS + 1
    assert found == expected
    assert seen["write"] > 100 and seen["reset"] > 5
    if "A" in case.readers and case.modes[0] == 0:
        assert seen["kept"] > 50
    if case.ports == "AB":
        assert seen["collision"] > 0 and seen["garbage"] > 0
    if case.writers == "AB":
        assert seen["both"] > 0
    if case.widths[0] >= 16:
        assert seen["part"] > 50


@pytest.mark.parametrize("case", [Case("SDPX9B", (36, 36)), Case("DPX9B", (18, 18), (1, 1))], ids=named)
def test_without_undefined_bits_a_collision_gives_the_inverse(case, tmp_path):
    """As the model is in Verilator."""
    expected, found, seen = run(tmp_path, case, GOWIN_BLOCK_RAM.read_text(), inverse=True)
    assert found == expected
    assert seen["collision"] > 0
    assert not any("x" in line for line in found)


@pytest.mark.parametrize(
    ("case", "right", "wrong"),
    [
        (Case("SP", (4, 4), (2, 0)), "INIT[n * ROW +: ROW]", "INIT[n * ROW +: ROW] ^ (n == 0)"),
        (Case("SPX9", (9, 9), (2, 0)), "WRITE_MODE_A == NORMAL)", "WRITE_MODE_A != WRITE_THROUGH)"),
        (Case("SPX9", (36, 36), (2, 0)), "addr[2] ? BITS", "addr[1] ? BITS"),
        (Case("DPB", (4, 4), (1, 1)), "{addr[2], 2'b00}", "{addr[1], 2'b00}"),
        (Case("DPX9B", (9, 9), (1, 1)), "WRITE_MODE_A == WRITE_THROUGH", "WRITE_MODE_A == 3"),
        (Case("DPX9B", (18, 18), (1, 1)), "^ (a_mask & b_mask & GARBAGE)", ""),
        (Case("SDPX9B", (36, 36)), "^ (b_hit & GARBAGE)", ""),
        (Case("SDPX9B", (36, 36)), "BLKSELA == BLK_SEL_0", "1"),
        (Case("SDPX9B", (36, 36), reset="ASYNC"), '"ASYNC" && RESET_B', '"NEVER" && RESET_B'),
    ],
)
def test_a_wrong_model_is_found(case, right, wrong, tmp_path):
    model = GOWIN_BLOCK_RAM.read_text()
    assert right in model
    expected, found, _ = run(tmp_path, case, model.replace(right, wrong))
    assert len(found) == len(expected)
    assert found != expected


@pytest.mark.parametrize(
    ("cell", "parameters", "told"),
    [
        ("SP", {"READ_MODE": 1}, "dut.block: READ_MODE must be 0, as the model has no output register, not 1"),
        ("SDPX9B", {"READ_MODE": 1}, "dut.block: READ_MODE must be 0, as the model has no output register, not 1"),
        ("DPB", {"READ_MODE1": 1}, "dut.block: READ_MODE must be 0, as the model has no output register, not 1"),
        ("SPX9", {"WRITE_MODE": 3}, "dut.block: WRITE_MODE must be 0 to 2, not 3 and 0"),
        ("DPX9B", {"WRITE_MODE1": 2}, "dut.block: WRITE_MODE must be 0 to 1, not 0 and 2"),
        ("DPX9B", {"BIT_WIDTH_0": 36}, "dut.block: BIT_WIDTH must be one that the block has, not 36 and 18"),
        ("SDPB", {"BIT_WIDTH_1": 9}, "dut.block: BIT_WIDTH must be one that the block has, not 32 and 9"),
        ("SPX9", {"BIT_WIDTH": 4}, "dut.block: BIT_WIDTH must be one that the block has, not 4 and 4"),
        ("SDPB", {"RESET_MODE": '"NONE"'}, "dut.block: RESET_MODE must be SYNC or ASYNC, not NONE"),
        ("ALU", {"ALU_MODE": 3}, "dut: ALU_MODE must be 0 to 2, not 3"),
    ],
)
def test_what_is_not_modelled_stops_the_simulation(cell, parameters, told, tmp_path):
    given = ", ".join(f".{name}({value})" for name, value in parameters.items())
    bench = f'module bench; {cell} #({given}) dut(); initial #1 $display("went on"); endmodule\n'
    model = ALU if cell == "ALU" else GOWIN_BLOCK_RAM
    lines = compiled(tmp_path, bench, model.read_text())
    assert f"Error: bench.{told}" in lines
    assert "went on" not in lines


def test_alu_does_as_the_model_of_yosys(tmp_path):
    library = (yosys_share() / "gowin" / "cells_sim.v").read_text()
    theirs = re.search(r"^module ALU .*?^endmodule", library, re.MULTILINE | re.DOTALL)[0]
    theirs = re.sub(r"^specify.*?^endspecify", "", theirs, flags=re.MULTILINE | re.DOTALL).replace("ALU", "THEIRS", 1)
    cells = "".join(
        f"  {cell} #(.ALU_MODE({mode})) {cell}_{mode}(.I0(n[0]), .I1(n[1]), .I3(n[2]), .CIN(n[3]), "
        f".SUM({cell}[{2 * mode}]), .COUT({cell}[{2 * mode + 1}]));\n"
        for mode in range(3)
        for cell in ("ALU", "THEIRS")
    )
    bench = f"""
module bench;
  reg [4:0] n;
  wire [5:0] ALU, THEIRS;
{cells}
  initial for (n = 0; n < 16; n = n + 1) begin
    #1 $display("%b %b", ALU, THEIRS);
  end
endmodule
"""
    pairs = [line.split() for line in compiled(tmp_path, bench, ALU.read_text() + theirs)]
    assert len(pairs) == 16 and len({ours for ours, _ in pairs}) > 4
    # Nothing moves before the first change of an input, where theirs waits for one.
    assert all(ours == other for ours, other in pairs[1:])
    assert not any("x" in ours for ours, _ in pairs)
