"""Bitstreams, unpacked again: what the board gets is what was routed."""

from pathlib import Path

from hw.flow.families.base import Family, Part
from model.support.errors import MismatchError

__all__ = ["BitstreamError", "check_bitstream"]


class BitstreamError(MismatchError):
    """A bitstream is not that of the routed design."""


def check_bitstream(family: Family, part: Part, *, routed: Path, bitstream: Path, log: Path) -> None:
    """Unpack ``bitstream`` and compare it with the routed design.

    Raises
    ------
    BitstreamError : says how often they differ, and where first
    ToolError : the tool failed
    """
    if different := family.unpack(part, routed=routed, bitstream=bitstream, log=log):
        raise BitstreamError(
            f"bitstream must unpack to the routed design {routed}, but differs in {len(different)} places, first {different[0]}"
        )
