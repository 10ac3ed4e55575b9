"""What a measurement is made of, and that it is made again only when that changes."""

import numpy as np
import pytest

from model.studies.paper.kept import Kept, sources_of
from model.support.dataset import Dataset


@pytest.fixture
def frames():
    return Dataset("some", np.zeros((3, 2, 2, 1), np.uint8), np.zeros(3, np.int64))


def test_a_study_stands_on_those_that_it_imports():
    names = [path.name for path in sources_of("model.studies.paper.courses")]
    assert names == ["instruments.py", "courses.py"]
    assert [path.name for path in sources_of("model.studies.direct_quantization")] == ["direct_quantization.py"]


def test_it_is_made_once_for_the_same(frames, tmp_path):
    network, made = tmp_path / "network.npz", []
    network.write_bytes(b"one")

    def measure(title="what", source="model.studies.paper.look", settings=None, data=frames):
        def make(done):
            made.append(title)
            done(3)
            return {"value": len(made)}

        run = Kept((data,), tmp_path / "cache", None)
        return run.measured(title, lambda values: values["value"], make, source=source, files=(network,), settings=settings)

    assert [measure(), measure()] == [1, 1]
    assert measure(title="other") == 2
    assert measure(settings=(1, 2)) == 3
    assert measure(source="model.studies.direct_quantization") == 4
    assert measure(data=Dataset("some", frames.images + 1, frames.labels)) == 5
    network.write_bytes(b"two")
    assert [measure(), measure()] == [6, 6]
    network.write_bytes(b"one")
    assert measure() == 1
    assert made == ["what", "other", *["what"] * 4]
    for damaged in ("", "[1", "[]", "{}"):
        for path in (tmp_path / "cache").glob("*.json"):
            path.write_text(damaged)
        assert measure() == len(made)
        assert measure() == len(made)
    assert made == ["what", "other", *["what"] * 8]
