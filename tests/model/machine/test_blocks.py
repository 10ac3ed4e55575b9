"""Block RAMs: how many a memory takes."""

import pytest

from model.machine.blocks import BSRAM, DP16KD, SB_RAM40_4K


def test_sizes():
    assert (DP16KD.bits, DP16KD.data_bits) == (BSRAM.bits, BSRAM.data_bits) == (18 * 1024, 16 * 1024)
    assert (SB_RAM40_4K.bits, SB_RAM40_4K.data_bits) == (4096, 4096)


@pytest.mark.parametrize(
    ("depth", "width", "blocks"), [(0, 16, 0), (1, 1, 1), (256, 16, 1), (257, 16, 2), (512, 9, 2), (1024, 8, 2), (2049, 2, 2)]
)
def test_the_fewest_blocks(depth, width, blocks):
    assert SB_RAM40_4K.needed(depth, width) == blocks
