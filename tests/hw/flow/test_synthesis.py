"""Synthesis refuses what the project promises to do without."""

from pathlib import Path

import pytest

from hw.flow.synthesis import MultiplierError, synthesize


def test_a_multiplier_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ports = "input clk, input [7:0] a, b, output reg [15:0] y"
    Path("bad.v").write_text(f"module top({ports}); always @(posedge clk) y <= a * b; endmodule\n")
    with pytest.raises(MultiplierError, match=r"^a multiplication \(\$mul, .*\) is in the design; see bad.log$"):
        synthesize(Path("bad.v"), top="top", netlist=Path("bad.json"), log=Path("bad.log"))
    assert not Path("bad.json").exists()
