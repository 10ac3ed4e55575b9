"""What is elaborated: the same each time, of everything, and with all of its parts."""

import collections

from amaranth.hdl import Elaboratable, Module

from sim.elaboration.machines import elaborate, random_system


def test_a_system_is_its_seed_and_number():
    first, again, other = random_system(3, 5), random_system(3, 5), random_system(3, 6)
    assert first[0].content_hash == again[0].content_hash and first[1] == again[1] and first[2].divisor == again[2].divisor
    assert first[0].content_hash != other[0].content_hash


def test_systems_are_of_everything():
    seen = collections.Counter()
    for number in range(30):
        network, plan, system = random_system(1, number)
        seen.update([plan.architecture, network.firing, f"levels {network.input_levels > 1}", f"states {plan.states}"])
        seen["flash"] += system.flash_addr is not None
        seen["several inputs"] += network.branched
    wanted = ("pipeline", "folded", "immediate", "deferred", "flash", "several inputs")
    wanted += tuple(f"{what} {value}" for what in ("levels", "states") for value in (False, True))
    assert min(seen[name] for name in wanted) > 0, seen


def test_parts_of_parts_are_elaborated():
    elaborated = []

    class Part(Elaboratable):
        def __init__(self, depth):
            self.depth = depth

        def elaborate(self, platform):
            elaborated.append(self.depth)
            m = Module()
            if self.depth:
                m.submodules.part = Part(self.depth - 1)
            return m

    elaborate(Part(2))
    assert elaborated == [2, 1, 0]
