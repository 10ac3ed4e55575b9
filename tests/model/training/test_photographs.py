"""Photographs are changed by what the changes are said to be."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model.training.photographs import shifted_and_mirrored  # noqa: E402


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
