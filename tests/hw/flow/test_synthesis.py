"""Synthesis refuses what the project promises to do without."""

import errno
import os
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


def test_a_netlist_that_had_no_room_is_none(tmp_path, monkeypatch):
    """Yosys ends well all the same."""
    def half(name, args, *, log, line):
        script = Path(args[-1]).read_text()
        Path(script.split("write_json ")[1].strip()).write_text('{"modules": {"top": ')

    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hw.flow.synthesis.run_tool", half)
    monkeypatch.setattr("hw.flow.synthesis.check_room", full)
    with pytest.raises(OSError, match=r"No space left on device") as caught:
        synthesize(Path("top.v"), top="top", netlist=Path("top.json"), log=Path("top.log"))
    assert caught.value.filename == "top.json"
    assert os.listdir() == ["top.ys"]
