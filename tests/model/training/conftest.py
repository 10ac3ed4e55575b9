"""Digits for trainings in small."""

from dataclasses import replace

import pytest

from model.support.datasets import load


@pytest.fixture(scope="module")
def digits():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
    torch.set_num_threads(1)
    data = load("digits5k", "train")
    return replace(data, images=data.images[:360], labels=data.labels[:360])
