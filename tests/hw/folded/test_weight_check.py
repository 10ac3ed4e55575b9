"""The check of weights: its signature is the model's, over exactly the words of the weights."""

from dataclasses import replace

import numpy as np
import pytest

from hw.folded.weight_check import WeightCheck
from model.machine.folded_layout import Folded
from model.machine.folded_plan import folded_plan
from model.machine.signature import signature
from model.network import Network
from sim.generators.networks import random_linear
from tests.hardware import simulate


@pytest.mark.parametrize("flip", [None, (0, 0), (0, 63), (-1, 5)])
def test_signature_of_what_is_read(flip):
    layer = random_linear(1, inputs=12, outputs=5, name="only", activation="identity")
    network = Network(name="n", input_shape=(2, 2, 3), layers=(replace(layer, weights=np.arange(60).reshape(5, 12)),))
    plan = folded_plan(network)
    folded = Folded.of(network, replace(plan, cores=(replace(plan.cores[0], weight_memory="single_port"),)))
    check, words = WeightCheck(folded=folded), folded.single_weights()
    read = list(words)
    if flip:
        read[flip[0]] ^= 1 << flip[1]
    # What lies before and after the weights does not count.
    memory = [1] * folded.single_state_words + read + [3] * 4

    async def testbench(ctx):
        for _ in range(2):
            ctx.set(check.start, 1)
            await ctx.tick()
            ctx.set(check.start, 0)
            cycles = 0
            while not ctx.get(check.done):
                addr = ctx.get(check.addr) if ctx.get(check.reads) else 0
                await ctx.tick()
                ctx.set(check.data, memory[addr])
                cycles += 1
            assert cycles == len(words) + 1
            assert ctx.get(check.found) == signature(read)
            assert ctx.get(check.right) == (flip is None)
            await ctx.tick()
            assert not ctx.get(check.done)

    simulate(check, testbench)
