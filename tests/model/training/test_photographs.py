"""Photographs are changed by what the changes are said to be."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model.training.photographs import cut_out, shifted_and_mirrored  # noqa: E402


def test_photographs_are_shifted_and_mirrored():
    torch.manual_seed(4)
    images = torch.from_numpy(np.random.default_rng(4).integers(1, 256, (60, 32, 32, 3)).astype(np.uint8))
    found = shifted_and_mirrored(images)
    assert found.shape == (60, 3, 32, 32)
    assert found.is_contiguous(memory_format=torch.channels_last)
    padded = np.pad(images.numpy(), ((0, 0), (4, 4), (4, 4), (0, 0)))
    seen = set()
    for frame, wide in zip(np.rint(found.permute(0, 2, 3, 1).numpy()).astype(np.uint8), padded, strict=True):
        cuts = {
            (down, right, mirrored)
            for down in range(9)
            for right in range(9)
            for mirrored in (False, True)
            if np.array_equal(frame, wide[down : down + 32, right : right + 32][:, :: -1 if mirrored else 1])
        }
        assert len(cuts) == 1
        seen |= cuts
    downs, rights, mirrored = zip(*seen, strict=True)
    assert (set(downs), set(rights), set(mirrored)) == (set(range(9)), set(range(9)), {False, True})


def test_a_square_is_cut_out_of_each_frame_anywhere():
    torch.manual_seed(5)
    frames = torch.rand(400, 3, 9, 12) + 1
    found = cut_out(frames, 4)
    gone = found == 0
    assert torch.equal(found[~gone], frames[~gone])
    # All channels lose the same.
    assert torch.equal(gone.all(1), gone.any(1))
    middles = set()
    for frame in gone[:, 0].numpy():
        rows, columns = np.flatnonzero(frame.any(1)), np.flatnonzero(frame.any(0))
        assert np.array_equal(frame, np.outer(frame.any(1), frame.any(0)))
        for at, length in ((rows, 9), (columns, 12)):
            # What is missing of a side lies beyond the border.
            assert np.array_equal(at, np.arange(at[0], at[-1] + 1))
            assert len(at) == 4 or (len(at) >= 2 and (at[0] == 0 or at[-1] == length - 1))
        middles.add((rows[-1], columns[-1]))
    assert {row for row, _ in middles} == set(range(1, 9)) and {column for _, column in middles} == set(range(1, 12))
    assert torch.equal(cut_out(frames, 0), frames)
    assert (cut_out(frames, 24) == 0).all()
