"""A bitstream goes into the device, or into the flash from which it starts."""

from pathlib import Path

from boards.definitions import Board
from hw.flow.tools import run_tool
from model.support.errors import ToolError

__all__ = ["program"]


def program(board: Board, *, bitstream: Path, weights_image: Path | None, flash: bool) -> None:
    """Write with openFPGALoader; its output goes beside what is written.

    Parameters
    ----------
    board : Board
        Which programmer to use, and where in its flash the weights lie.
    bitstream : Path
        What to write.
    weights_image : Path or None
        What goes into the flash after the bitstream.
    flash : bool
        Whether to write the flash, rather than load the device until power is off.

    Raises
    ------
    ToolError
        It failed.
    """
    parts = [(bitstream, 0)]
    if flash and weights_image:
        # The device starts again after each part.
        parts.append((weights_image, board.flash_addr))
    for path, offset in parts:
        log = path.with_suffix(".program.log")
        where = ["--write-flash", "--verify", "--offset", f"{offset:#x}"] if flash else []
        # Not all that fails shows in its exit code.
        output = run_tool("openfpgaloader", ["--board", board.programmer, *where, path], log=log)
        if "FAIL" in output:
            raise ToolError(f"openfpgaloader failed; see {log}", output)
