"""Block RAMs of the families: what they hold in which shapes."""

from dataclasses import dataclass

__all__ = ["BSRAM", "DP16KD", "SB_RAM40_4K", "UP5K_BLOCKS", "BlockRAM"]


@dataclass(frozen=True, kw_only=True)
class BlockRAM:
    """A memory block with one port to read and one to write.

    Parameters
    ----------
    name : str
        Name of the cell.
    shapes : tuple of (int, int)
        Words and width of each shape that it can have, from the widest to the deepest.
    """

    name: str
    shapes: tuple[tuple[int, int], ...]

    @property
    def bits(self) -> int:
        """Bits that it holds in its widest shape, parity included."""
        words, width = self.shapes[0]
        return words * width

    @property
    def data_bits(self) -> int:
        """Bits that it holds in its deepest shape, which has no parity."""
        words, width = self.shapes[-1]
        return words * width

    def needed(self, depth: int, width: int) -> int:
        """Blocks that a memory of ``depth`` words takes, all of the same shape: the fewest."""
        return min(-(-depth // words) * -(-width // bits) for words, bits in self.shapes) if depth else 0


DP16KD = BlockRAM(name="DP16KD", shapes=((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)))
"""Of the ECP5 (Lattice TN-02204)."""

BSRAM = BlockRAM(name="BSRAM", shapes=DP16KD.shapes)
"""Of Gowin's LittleBee and Arora (Gowin UG285): the same shapes."""

SB_RAM40_4K = BlockRAM(name="SB_RAM40_4K", shapes=((256, 16), (512, 8), (1024, 4), (2048, 2)))
"""Of the iCE40 (Lattice FPGA-TN-02002)."""

UP5K_BLOCKS = 30
"""Block RAMs of an iCE40 UP5K."""
