"""A small network for a virtual board, with a few frames and the answers to them."""

import numpy as np
from click.testing import CliRunner

from boards.host import main
from model.encode import encode
from model.golden import run
from model.machine.named_plans import named_plan
from model.network import Neurons
from sim.generators.networks import random_network

NETWORK = random_network(2)
PLAN = named_plan(NETWORK, "minimal")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, *NETWORK.input_shape), dtype=np.uint8)

NEURON_LAYERS = [layer.name for layer in NETWORK.layers if isinstance(layer, Neurons)]


def expected(image):
    trace = run(NETWORK, encode(NETWORK, image))
    return trace.answer, tuple(trace.counts.tolist())


def command(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])
