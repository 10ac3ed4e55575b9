"""Whole machines: what their netlists toggle, beside what the models say."""

from dataclasses import replace

import numpy as np
import pytest

from hw.flow.families.ecp5 import ECP5
from hw.flow.families.gowin import GOWIN
from hw.flow.families.ice40 import ICE40
from hw.machines import machine_of
from model.encode import encode
from sim.cosimulation import CACHE, verify
from sim.netlist import machine_netlist
from sim.simulators import SimulationError
from sim.toggling.energy import COEFFICIENTS
from sim.toggling.page import lines, table_name, titles, toggles_markdown
from sim.toggling.study import toggles
from tests.sim.toggling.small import FRAMES, PLAN, images, network, plan


def study(family, name, folder, frames=None):
    given = images() if frames is None else frames
    return toggles(network(), plan(name), given, dataset="drawn", family=family, out_dir=folder, line=[].append)


def check(family, name, folder):
    """What must hold of any machine."""
    result, found = study(family, name, folder)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert (found.network, found.plan, found.family, found.frames) == ("small", plan(name).name, family.NAME, FRAMES)
    assert (found.spikes_compared, found.cycles_compared) == (result.spikes_compared, result.cycles_compared)
    # The first frame begins in the cycle in which the machine is offered a token, some before it takes it.
    assert 0 <= found.cycles_per_frame * FRAMES - sum(result.cycles_per_frame) <= 10
    assert sum(found.toggles_each) / FRAMES == pytest.approx(sum(row.per_frame for row in found.rows))
    assert min(found.toggles_each) > 500
    for row in found.rows:
        assert row.per_frame <= row.count * found.cycles_per_frame
        assert row.reached_per_frame >= row.per_frame
    for row in found.accesses:
        assert row.per_frame <= row.count * found.cycles_per_frame
    # Nothing but a counter moves without a frame.
    assert sum(row.idle_per_cycle for row in found.rows) < 12
    return found


def test_an_ice40(tmp_path):
    found = check(ICE40, PLAN, tmp_path)
    assert [row.kind for row in found.rows] == ["input", "LUT", "carry", "flip-flop", "block RAM", "large RAM"]
    assert [row.kind for row in found.accesses] == [
        "block RAM, reads", "block RAM, writes", "large RAM, reads", "large RAM, writes",
    ]  # fmt: skip
    pj, spent = COEFFICIENTS["ice40"], found.energy_nj
    assert spent.nets == pytest.approx(sum(row.per_frame for row in found.rows) * pj.toggle / 1e3)
    assert spent.nets_by_sinks == pytest.approx(sum(row.reached_per_frame for row in found.rows) * pj.reached / 1e3)
    assert spent.flip_flops == pytest.approx(found.flip_flops * found.cycles_per_frame * pj.flip_flop / 1e3)
    assert spent.clock == pytest.approx(found.cycles_per_frame * pj.clock / 1e3)
    idle = found.idle_energy_nj
    assert pj.clock < idle.total * 1e3 < spent.total / found.cycles_per_frame * 1e3
    table = lines(found)
    assert [len(line) for line in table] == [len(titles(found))] * (len(found.rows) + len(found.accesses) + 3)
    assert table[-1] == ["all", "", "", "", "", "", f"**{spent.total:,.0f}**"]
    assert toggles_markdown(found).count("\n") == len(table) + 2
    assert table_name(found.network, found.plan, found.family) == f"toggles small {plan().name} ice40"


@pytest.mark.full
def test_an_ecp5(tmp_path):
    found = check(ECP5, "minimal", tmp_path)
    assert {"LUT", "carry", "flip-flop", "LUT RAM"} <= {row.kind for row in found.rows}
    assert (found.energy_nj, found.idle_energy_nj) == (None, None)
    assert all(len(line) == len(titles(found)) == 6 for line in lines(found))
    # What only the traces need is in the netlist and not counted.
    netlist = machine_netlist(machine_of(network(), plan("minimal")), cache=CACHE, log=tmp_path / "log")
    assert sum(found.cells.values()) <= sum(netlist.cells.values())


@pytest.mark.full
def test_counting_changes_nothing_and_frames_without_events_toggle_less(tmp_path):
    """The machine answers in the same cycles as without counting; black images need less."""
    black = np.zeros_like(images())
    assert all(len(encode(network(), image)) == 0 for image in black)
    result, found = study(ICE40, PLAN, tmp_path / "black", black)
    _, other = study(ICE40, PLAN, tmp_path / "drawn")
    assert max(found.toggles_each) < min(other.toggles_each)
    plain = verify(network(), plan(), black, level="netlist", family=ICE40, out_dir=tmp_path / "plain")
    assert plain == result


@pytest.mark.full
def test_nothing_is_said_where_the_netlist_differs(tmp_path, monkeypatch):
    """A machine of other thresholds than the golden model's."""
    from sim.toggling import study as of

    layers = tuple(replace(layer, threshold_log2=layer.threshold_log2 - 1) for layer in network().layers)
    other, right = replace(network(), layers=layers), of.machine_of
    monkeypatch.setattr(of, "machine_of", lambda _, plan: right(other, plan))
    result, found = study(ICE40, PLAN, tmp_path)
    assert found is None
    assert result.mismatches > 0


@pytest.mark.full
def test_a_family_without_kinds_gets_one_line(tmp_path):
    with pytest.raises(SimulationError, match=r"^it is not known what kind of net output \w+ of cell \w+ drives$"):
        study(GOWIN, "minimal", tmp_path)
