"""The planner against all plans there are, and the command that uses it."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from model.encode import encode
from model.estimate import estimate, limits, planned, timeline
from model.golden import run
from model.machine.named_plans import choices, named_plan
from model.machine.pipeline_cycles import simulate
from model.machine.plan import Plan, PlanError
from model.machine.planner import Demand, fastest, size_fifos, walker_cycles
from model.network import MaxPool, Network, Neurons, Padding
from model.support.datasets import Dataset
from model.support.errors import DoesNotFitError
from tests.hardware import random_convolution, random_linear, random_network

RNG = np.random.default_rng(7)


def small(seed=1):
    """A convolution with a max-pool, and a linear layer: few enough plans to try them all."""
    conv = random_convolution(
        seed, inputs=1, name="conv", kernel=(3, 3), stride=(1, 1), channels=4, padding=Padding(1, 1, 1, 1)
    )
    pool = MaxPool(name="pool", source="conv", window=(2, 2), stride=(2, 2))
    out = random_linear(seed, inputs=4 * 4 * 4, outputs=10, name="out", source="pool", activation="identity")
    return Network(name="small", input_shape=(8, 8, 1), layers=(conv, pool, out))


def frames(network, count, seed=3):
    rng = np.random.default_rng(seed)
    dark = rng.random((count, *network.input_shape)) < 0.6
    return np.where(dark, 0, rng.integers(0, 256, (count, *network.input_shape))).astype(np.uint8)


def data(network, count):
    return Dataset("noise", frames(network, count), np.random.default_rng(1).integers(0, network.classes, count))


@pytest.mark.parametrize("seed", range(1, 5))
def test_walkers_take_the_cycles_foreseen(seed):
    network = random_network(seed)
    images = frames(network, 12)
    demand = Demand.of(network, images)
    assert demand.frames == 12
    for name in ("minimal", "default", "fast"):
        plan = named_plan(network, name)
        found = simulate(network, plan, images)
        neurons = [core for core in found.cores if core.name != "pool2"]
        for core, use in zip(plan.cores, neurons, strict=True):
            assert round(walker_cycles(network, demand, core) * len(images), 6) == use.working


@pytest.mark.parametrize("seed", [1, 2])
def test_never_ten_percent_worse_than_the_best_of_all_plans(seed):
    network = small(seed)
    images = frames(network, 8)
    options = [choices(network, layer.name) for layer in network.layers if isinstance(layer, Neurons)]
    every = [Plan(name="x", cores=cores) for cores in itertools.product(*options)]
    assert len(every) >= 30
    measured = {plan.cores: simulate(network, plan, images).cycles_per_frame for plan in every}
    demand = Demand.of(network, images)
    for limit in sorted({plan.lanes for plan in every}):
        best = min(measured[plan.cores] for plan in every if plan.lanes <= limit)
        chosen = fastest(network, demand, limits(network, max_lanes=limit), name="x")
        assert chosen.lanes <= limit
        assert measured[chosen.cores] <= 1.1 * best
    for wanted in np.quantile(list(measured.values()), [0.1, 0.5, 0.9]):
        # Of the plans that are a tenth faster than what is wanted, none has fewer lanes.
        best = min(plan.lanes for plan in every if measured[plan.cores] <= max(wanted / 1.1, min(measured.values())))
        assert planned(network, images, cycles=wanted).plan.lanes <= best


def test_fifos_grow_where_it_helps():
    network = random_network(2)
    images = frames(network, 12)
    plan = named_plan(network, "fast")
    tight = replace(plan, cores=tuple(replace(core, event_fifo=2, group_fifo=8) for core in plan.cores))
    before = simulate(network, tight, images).cycles_per_frame
    sized, found = size_fifos(network, tight, images)
    assert found.cycles_per_frame < before
    assert simulate(network, sized, images).cycles_per_frame == found.cycles_per_frame
    assert any(core.event_fifo > 2 or core.group_fifo > 8 for core in sized.cores)


def test_what_cannot_be_had():
    network = small()
    images = frames(network, 4)
    demand = Demand.of(network, images)
    with pytest.raises(PlanError, match=r"^cycles a frame must be at least \d+, not 3: the fastest plan has 46 lanes$"):
        planned(network, images, cycles=3)
    one = limits(network, max_lanes=1)
    with pytest.raises(DoesNotFitError, match=r"^the smallest plan, of 2 lanes, does not fit: short of 1 lanes \(needs 2, may"):
        fastest(network, demand, one)
    with pytest.raises(DoesNotFitError, match=r"^100 cycles a frame take \d+ lanes, which do not fit: short of \d+ lanes"):
        planned(network, images, cycles=100, short_of=one)
    with pytest.raises(ValueError, match=r"^images must be at least one frame$"):
        Demand.of(network, images[:0])


def test_estimate_says_when_the_answer_is_right():
    network = small()
    plan = named_plan(network, "default")
    found, shown = estimate(network, plan, data(network, 9), clock_mhz=50)
    labels = data(network, 9).labels
    right = 0
    for image, label in zip(frames(network, 9), labels, strict=True):
        trace = run(network, encode(network, image))
        right += bool(len(trace.layers["out"].spikes)) and trace.answer == label
    assert found["right_answers"] == right
    assert 0 < found["first_spike_cycles_mean"] < found["latency_cycles_mean"]
    assert found["frames_per_second"] == pytest.approx(50e6 / found["cycles_per_frame"], rel=1e-3)
    assert found["slowest_core_share"] <= 1
    for core in found["cores"]:
        shares = [core[f"{name}_share"] for name in ("starved", "working", "blocked", "sweeping")]
        assert sum(shares) == pytest.approx(1, abs=0.001)
    assert json.loads(json.dumps(found)) == found
    assert len(timeline(shown, "out").axes[0].collections) >= len(found["cores"])


def command(*args):
    done = subprocess.run([sys.executable, "-m", "model.estimate", *map(str, args)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, (done.stderr.strip().splitlines() or [""])[-1]


def test_command(tmp_path):
    network = small()
    network.save(tmp_path / "net.npz")
    given = data(network, 40)
    np.savez(tmp_path / "data.npz", images=given.images, labels=given.labels)
    common = (tmp_path / "net.npz", "--dataset", tmp_path / "data.npz", "--out", tmp_path / "out", "--frames", 20)
    code, out, _ = command(*common, "--max-lanes", 20, "--save-plan", tmp_path / "plan.json", "--json")
    assert code == 0
    found = json.loads(out)
    assert found == json.loads((tmp_path / "out" / "estimate.json").read_text())
    assert found["lanes"] <= 20
    page = (tmp_path / "out" / "estimate.html").read_text()
    assert "slowest core" in page and "http://" not in page.replace("http://www.w3.org", "")
    code, out, _ = command(*common, "--plan", tmp_path / "plan.json", "--json")
    assert code == 0
    assert json.loads(out)["cycles_per_frame"] == found["cycles_per_frame"]
    code, out, line = command(*common, "--target-fps", 1e9)
    assert (code, out) == (2, "")
    assert line.startswith("error: cycles a frame must be at least")
    assert command(*common, "--target-fps", 10, "--plan", "fast")[2] == (
        "error: --plan must not be given with --target-fps, --max-lanes or --max-lut"
    )
    assert command(tmp_path / "none.npz")[0] == 2


def test_command_plans_for_luts_and_boards(tmp_path):
    network = small()
    network.save(tmp_path / "net.npz")
    given = data(network, 40)
    np.savez(tmp_path / "data.npz", images=given.images, labels=given.labels)
    common = (tmp_path / "net.npz", "--dataset", tmp_path / "data.npz", "--out", tmp_path / "out", "--frames", 20, "--json")
    found = {}
    for luts in (5000, 9000):
        code, out, _ = command(*common, "--max-lut", luts)
        assert code == 0
        found[luts] = json.loads(out)
        assert found[luts]["area"]["luts"] <= luts
        # Of the plans it chose from, every faster one takes more.
        considered = found[luts]["plans_considered"]
        chosen = next(plan for plan in considered if plan["chosen"])
        faster = [plan for plan in considered if plan["slowest_core_cycles"] < chosen["slowest_core_cycles"]]
        assert all(plan["luts"] > luts for plan in faster)
    assert found[5000]["cycles_per_frame"] > found[9000]["cycles_per_frame"]
    assert found[9000]["energy_nj_per_frame"]["total"] > 0
    assert "Plans considered" in (tmp_path / "out" / "estimate.html").read_text()

    code, out, _ = command(*common, "--board", "ulx3s-25f")
    assert code == 0
    fits = json.loads(out)
    assert (fits["board"], fits["short_of"]) == ("ulx3s-25f", [])
    assert command(*common, "--max-lut", 100)[::2] == (
        3,
        f"error: the smallest plan, of 2 lanes, does not fit: short of {fits['plans_considered'][0]['luts'] - 100} LUTs "
        f"(needs {fits['plans_considered'][0]['luts']}, may have 100)",
    )
    assert command(*common, "--board", "none")[2].startswith("error: board must be one of ulx3s-25f,")

    # A plan that does not fit is estimated all the same, and refused in the end.
    wide = tmp_path / "wide.json"
    plan = named_plan(network, "fast")
    replace(plan, cores=tuple(replace(core, event_fifo=65536) for core in plan.cores)).save(wide)
    code, out, line = command(*common, "--board", "ulx3s-25f", "--plan", wide)
    assert code == 3
    assert json.loads(out)["short_of"]
    assert line.startswith("error: does not fit ulx3s-25f: short of ")


def test_a_board_that_the_area_model_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"^board must be one that the area model knows, an ECP5, not 'tang-nano-9k' \(Gowin\)$"):
        limits(small(), board="tang-nano-9k")
