"""Output registers of block RAM: what is packed, what must not be, and that the netlist still does the same."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from hw.flow.output_registers import pack_output_registers
from hw.flow.synthesis import synthesize
from hw.flow.tools import run_tool
from hw.flow.verilog import to_verilog
from hw.pipeline.weights import WeightMemory
from sim.netlist import BLOCK_RAM

VARIANTS = """
module top(input clk, input rst, input en, input we, input [9:0] addr, input [17:0] data,
           output reg [17:0] plain, reset, enabled, shared, output [17:0] bare);
  reg [17:0] m0 [0:1023], m1 [0:1023], m2 [0:1023], m3 [0:1023];
  reg [17:0] r0, r1, r2, r3;
  assign bare = r3;
  always @(posedge clk) begin
    if (we) begin m0[addr] <= data; m1[addr] <= ~data; m2[addr] <= data + 1; m3[addr] <= data + 3; end
    r0 <= m0[addr]; r1 <= m1[addr]; r2 <= m2[addr]; r3 <= m3[addr];
    plain <= r0;
    if (rst) reset <= 0; else reset <= r1;
    if (en) enabled <= r2;
    shared <= r3;
  end
endmodule
"""
"""Four memories with a register after each: only the first is the block's own."""


def modes(netlist: Path) -> dict[str, str]:
    cells = json.loads(netlist.read_text())["modules"]["top"]["cells"]
    return {
        name: "/".join(cell["parameters"][f"REGMODE_{side}"] for side in "AB")
        for name, cell in cells.items()
        if cell["type"] == "DP16KD"
    }


def test_only_plain_registers_are_packed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("top.v").write_text(VARIANTS)
    found = synthesize(Path("top.v"), top="top", netlist=Path("top.json"), log=Path("top.log"))
    assert (found.ram_blocks, found.output_registers) == (4, 18)
    packed = {name.split(".")[0]: mode for name, mode in modes(Path("top.json")).items() if "OUTREG" in mode}
    assert list(packed) == ["m0"]
    assert "18 flip-flops went into the output registers of 1 block RAM ports" in Path("top.log").read_text()
    # A second time there is nothing left to pack.
    module = json.loads(Path("top.json").read_text())["modules"]["top"]
    assert pack_output_registers(module) == (0, 0)


@pytest.mark.parametrize(("depth", "channels"), [(400, 9), (900, 3), (1500, 2), (2200, 1), (4200, 1)])
def test_netlist_of_a_weight_memory_does_what_its_verilog_does(depth, channels, tmp_path, monkeypatch):
    if not shutil.which("iverilog"):
        pytest.skip("iverilog is not installed; get it with: apt-get install iverilog")
    monkeypatch.chdir(tmp_path)
    words = [[(n * 37 + c * 11 + n // 251) % 256 - 128 for c in range(channels)] for n in range(depth)]
    text = to_verilog(WeightMemory(words=words, weight_bits=8), "top")
    Path("top.v").write_text(text)
    found = synthesize(Path("top.v"), top="top", netlist=Path("top.json"), log=Path("top.log"))
    assert (found.output_registers, found.ff) == (8 * channels, 0)
    module = json.loads(Path("top.json").read_text())["modules"]["top"]
    blocks = [cell["parameters"] for cell in module["cells"].values() if cell["type"] == "DP16KD"]
    widths = {
        int(str(block[f"DATA_WIDTH_{side}"]), 2) for block in blocks for side in "AB" if block[f"REGMODE_{side}"] == "OUTREG"
    }
    assert max(widths) == {400: 36, 900: 18, 1500: 9, 2200: 4, 4200: 2}[depth]
    Path("gates.json").write_text(json.dumps({"modules": {"gates": module}}))
    cells = "read_verilog -overwrite +/lattice/cells_sim_ecp5.v"
    Path("back.ys").write_text(f"read_json gates.json\n{cells}\nhierarchy -top gates\nwrite_verilog gates.v\n")
    run_tool("yosys", ["-s", "back.ys"], log=Path("back.log"))
    Path("block.v").write_text(BLOCK_RAM.read_text())
    bits, width = (depth - 1).bit_length(), 8 * channels
    Path("bench.v").write_text(f"""
module bench;
  reg clk = 0; reg [{bits - 1}:0] addr = 0; wire [{width - 1}:0] expected, found; integer n, wrong = 0, kinds = 0;
  top rtl(.clk(clk), .rst(1'b0), .addr(addr), .word(expected));
  gates netlist(.clk(clk), .rst(1'b0), .addr(addr), .word(found));
  initial begin
    for (n = 0; n < {depth + 2}; n = n + 1) begin
      #1 clk = 1; #1 clk = 0;
      if (n > 2 && found !== expected) wrong = wrong + 1;
      if (n > 2 && found != 0) kinds = kinds + 1;
      addr = n < {depth} ? n : 0;
    end
    $display("%0d words wrong, %0d not 0", wrong, kinds);
  end
endmodule
""")
    compiled = ["iverilog", "-g2005", "-s", "bench", "-o", "bench", "bench.v", "top.v", "gates.v", "block.v"]
    for command in (compiled, ["vvp", "bench"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    wrong, other = map(int, (done.stdout.split()[0], done.stdout.split()[3]))
    assert wrong == 0
    assert other > depth * 0.9
