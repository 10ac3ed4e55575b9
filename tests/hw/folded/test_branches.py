"""The queues of a folded machine whose layers are no chain, against the services of its links."""

import random
from collections import deque

import pytest

from hw.folded.branches import Branches
from model.machine.folded_layout import Folded
from model.machine.folded_order import Action
from sim.generators.graphs import random_graph
from sim.generators.plans import random_folded_plan
from tests.hardware import simulate


class Reference:
    """What waits on each link, with how often its first event has been served, and what each input keeps."""

    def __init__(self, folded):
        self.folded = folded
        self.waiting = [deque() for _ in folded.links]
        self.served = [0] * len(folded.links)
        self.kept = {number: deque() for number in folded.kept}
        self.actions = []

    def push(self, link, event, more=0):
        """An event that waits on a link, as often as it was fired; the host's has been served once."""
        services = self.folded.links[link].services
        self.waiting[link] += [event] * (1 + more) if len(services) > (link == 0) else []
        self.served[0] = int(link == 0) if link == 0 else self.served[0]

    def serve(self):
        """Number of the input that takes an event, and that event; None where none does."""
        link = max(number for number, queue in enumerate(self.waiting) if queue)
        service, event = self.folded.links[link].services[self.served[link]], self.waiting[link][0]
        self.actions.append(service.action)
        if service.action is Action.RELEASE and self.kept[service.number]:
            return service.number, self.kept[service.number].popleft()
        if service.action is Action.KEEP:
            self.kept[service.number].append(event)
        self.served[link] += 1
        if self.served[link] == len(self.folded.links[link].services):
            self.served[link] = 0
            self.waiting[link].popleft()
        return (service.number, event) if service.action is Action.TAKE else None


@pytest.mark.parametrize("seed", [1, 5])
def test_every_service_in_order(seed):
    """With bursts (5) and without (1); a layer that takes an event fires at random, no more than its queue holds."""
    chance = random.Random(seed)
    network = random_graph(seed, plain=True)
    folded = Folded.of(network, random_folded_plan(network, seed))
    branches, model, taken = Branches(folded=folded), Reference(folded), []

    def event(shape):
        return {"negative": chance.randrange(2), **{name: chance.randrange(n) for name, n in zip("yxc", shape, strict=True)}}

    async def fire(ctx, number):
        """The layer of the input fires."""
        la = folded.layers[folded.inputs[number].layer]
        ctx.set(branches.layer, folded.inputs[number].layer)
        for _ in range(chance.choice([0, 1, min(2, folded.links[folded.inputs[number].layer + 1].queue.depth)])):
            spike, more = event(la.leaving), chance.choice([0, 0, 1]) if folded.more_bits else 0
            ctx.set(branches.spike, spike)
            ctx.set(branches.push, 1)
            if folded.more_bits:
                ctx.set(branches.following, more)
            model.push(folded.inputs[number].layer + 1, spike, more)
            await ctx.tick()
            ctx.set(branches.push, 0)

    async def testbench(ctx):
        for _ in range(12):
            assert not ctx.get(branches.waiting) and not any(model.kept.values())
            given = event(network.input_shape)
            ctx.set(branches.host, given)
            ctx.set(branches.hosts, 1)
            await ctx.tick()
            ctx.set(branches.hosts, 0)
            model.push(0, given)
            await fire(ctx, folded.links[0].services[0].number)
            while any(model.waiting):
                assert ctx.get(branches.waiting)
                await ctx.tick()
                ctx.set(branches.serve, 1)
                expected = model.serve()
                assert ctx.get(branches.takes) == (expected is not None)
                if expected:
                    number, wanted = expected
                    found = ctx.get(branches.event)
                    assert ctx.get(branches.taken_by) == number
                    assert {name: getattr(found, name) for name in wanted} == wanted
                    taken.append(number)
                await ctx.tick()
                ctx.set(branches.serve, 0)
                if expected:
                    await fire(ctx, expected[0])

    simulate(branches, testbench)
    assert len(set(taken)) > len(folded.inputs) // 2
    assert set(model.actions) == set(Action)
