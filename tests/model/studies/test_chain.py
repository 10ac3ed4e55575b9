"""Runs of frames in batches: all of them, in their order, and what is refused."""

import threading
from dataclasses import dataclass

import numpy as np
import pytest

from model.importers.float_network import ConversionError, FloatLayer
from model.network import Shape
from model.studies.chain import Chain, run_in_batches
from model.studies.synapses import stages_of


@dataclass(frozen=True, kw_only=True)
class Sums:
    sums: np.ndarray
    threads: np.ndarray


def chain():
    shape = Shape(2, 2, 1)
    layers = [
        FloatLayer(kind="convolution", source="input", name="c", tensor="c", weights=np.ones((3, 1, 1, 1)),
                   bias=np.zeros(3), relu=True),
        FloatLayer(kind="maxpool", source="c", name="p", tensor="p", window=(2, 2), stride=(2, 2)),
        FloatLayer(kind="linear", source="p", name="f", tensor="f", weights=np.ones((5, 3)), bias=np.zeros(5)),
    ]
    return Chain(input_shape=shape, stages=stages_of(layers, shape), scales=(1.0, 1.0))


def test_pools_have_no_neurons():
    assert chain().neurons == 3 * 4 + 5


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_results_come_in_the_order_of_the_frames(size):
    images = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2, 1)
    gate = threading.Event()

    def run(batch):
        # The first batch is the last to be done, wherever there is more than one core.
        if batch[0, 0, 0, 0] == 0:
            gate.wait(0.2)
        else:
            gate.set()
        return Sums(sums=batch.sum(axis=(1, 2, 3), dtype=np.int64), threads=np.full(len(batch), threading.get_ident()))

    seen = []
    found = run_in_batches(chain(), images, size, run, seen.append)
    assert found.sums.tolist() == images.sum(axis=(1, 2, 3)).tolist()
    assert len(found.threads) == 7
    assert sum(seen) == 7
    assert len(seen) == -(-7 // size)


def test_frames_of_another_shape_and_none():
    def run(batch):
        raise AssertionError("nothing to run")

    with pytest.raises(ConversionError) as caught:
        run_in_batches(chain(), np.zeros((1, 2, 3, 1), np.uint8), 1, run, print)
    assert str(caught.value) == "frames must have the network's shape (2, 2, 1), not (2, 3, 1)"
    with pytest.raises(ValueError, match=r"^images must be at least one frame, not 0$"):
        run_in_batches(chain(), np.zeros((0, 2, 2, 1), np.uint8), 1, run, print)


def test_an_error_of_a_batch_is_that_of_the_run():
    def run(batch):
        raise ConversionError("layer 'c': no")

    with pytest.raises(ConversionError, match=r"^layer 'c': no$"):
        run_in_batches(chain(), np.zeros((4, 2, 2, 1), np.uint8), 2, run, print)
