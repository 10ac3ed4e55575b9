"""Faults made by hand: each has its place, and is gone afterwards."""

from pathlib import Path

import pytest

from hw.neuron import Lane
from hw.pipeline.readout import Readout
from sim.generators.networks import random_network
from sim.mutation.designs import DESIGNS
from sim.mutation.faults import FAST_CLOCKS, FAULTS, LATE_CLOCK, SourceFault, planted
from sim.mutation.netlists import prepare
from sim.mutation.parts import PARTS


@pytest.mark.parametrize("fault", [*FAULTS, LATE_CLOCK, *FAST_CLOCKS], ids=lambda fault: f"{fault.part}: {fault.says}")
def test_each_fault_has_its_place(fault):
    before = dict(vars(fault.component))
    assert fault.part in PARTS and fault.design in DESIGNS
    name, _, line = fault.source.partition(":")
    assert fault.right.partition("\n")[0] in Path(name).read_text().splitlines()[int(line) - 1]
    with planted(fault):
        changed = {name for name, found in vars(fault.component).items() if found is not before.get(name)}
        assert "elaborate" in changed and "__init__" not in changed
    assert dict(vars(fault.component)) == before


def test_every_part_has_faults():
    assert {fault.part for fault in FAULTS} == set(PARTS) - {"machine"}


def test_a_fault_is_built(tmp_path):
    """Only within the context, and with the faulty source's logic."""
    fault = next(fault for fault in FAULTS if fault.component is Readout and "equal" in fault.says)

    def cells(name):
        text = prepare(Readout(network=random_network(1)), "top", tmp_path / name).read_text()
        return {kind: text.count(f"cell {kind} ") for kind in ("$gt", "$ge")}

    right = cells("right")
    with planted(fault):
        wrong = cells("wrong")
    assert (wrong["$gt"], wrong["$ge"]) == (right["$gt"] - 1, right["$ge"] + 1)
    assert cells("again") == right


@pytest.mark.parametrize("right", ["no such place", "layer"])
def test_a_fault_without_its_place_is_refused(right):
    fault = SourceFault(says="", part="lane", design="immediate", component=Lane, right=right, wrong="")
    with pytest.raises(ValueError, match=rf"^Lane must have '{right}' once, not \d+ times$"), planted(fault):
        pass


def test_a_clock_that_wraps(tmp_path):
    """Of a readout that starts so, the clock alone is other."""

    def text(name):
        return prepare(Readout(network=random_network(1)), "top", tmp_path / name).read_text()

    right = text("right")
    with planted(LATE_CLOCK):
        late = text("late")
    lines = [pair for pair in zip(right.splitlines(), late.splitlines(), strict=True) if pair[0] != pair[1]]
    ones = f"32'{2**32 - 2000:032b}"
    # What it begins with, and what a reset makes it.
    assert len(lines) == 2 and all(there == here.removesuffix("0") + ones for here, there in lines)
