"""The command that estimates a plan, or chooses one."""

import json
from dataclasses import replace

import numpy as np
from click.testing import CliRunner

from hw.flow.area import memories
from model.estimate import main
from model.machine.named_plans import named_plan
from model.machine.plan import Plan
from sim.generators.networks import bursting
from tests.model.machine.test_planner import data, small


def command(*args):
    done = CliRunner().invoke(main, [*map(str, args)])
    return done.exit_code, done.stdout, (done.stderr.strip().splitlines() or [""])[-1]


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
    code, out, _ = command(*common, "--plan", tmp_path / "plan.json")
    assert code == 0
    assert f"once the pipeline is full: {found['steady_cycles_per_frame']:,.1f} cycles per frame" in out
    saved = ("--save-plan", tmp_path / "checked.json")
    code, out, _ = command(*common, "--plan", tmp_path / "plan.json", "--weight-check", *saved, "--json")
    checked = json.loads(out)
    assert code == 0 and Plan.load(tmp_path / "checked.json") == replace(Plan.load(tmp_path / "plan.json"), weight_check=True)
    assert checked["cycles_per_frame"] == found["cycles_per_frame"] and checked["area"]["luts"] > found["area"]["luts"]
    code, out, line = command(*common, "--target-fps", 1e9)
    assert (code, out) == (2, "")
    assert line.startswith("error: cycles per frame must be at least")
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


def test_area_is_that_of_how_neurons_fire(tmp_path):
    """A layer with bursts has more gates in a lane; one that fires deferred has fewer, and FIFOs of wider words."""
    networks = {"immediate": small(), "deferred": replace(small(), firing="deferred"), "bursts": bursting(small(), (4,), 5)}
    given, areas = data(small(), 20), {}
    np.savez(tmp_path / "data.npz", images=given.images, labels=given.labels)
    for name, network in networks.items():
        network.save(tmp_path / f"{name}.npz")
        common = ("--dataset", tmp_path / "data.npz", "--out", tmp_path / "out", "--board", "ulx3s-85f", "--plan", "minimal")
        code, out, _ = command(tmp_path / f"{name}.npz", *common, "--json")
        assert code == 0
        areas[name] = json.loads(out)["area"]
        built = memories(network, named_plan(network, "minimal"))
        assert areas[name]["lut_rams"] == sum(memory.lut_rams for memory in built)
        assert areas[name]["ram_blocks"] == sum(memory.blocks for memory in built)
    assert all(areas["immediate"][kind] < areas["bursts"][kind] for kind in ("luts", "flip_flops", "lut_rams"))
    assert areas["immediate"]["lut_rams"] < areas["deferred"]["lut_rams"]
    assert areas["immediate"]["luts"] != areas["deferred"]["luts"]


def test_boards_that_no_area_model_knows_take_their_own_plan(tmp_path):
    """Cycles are the same on any device; what is not known is whether a pipeline fits a Gowin."""
    network = small()
    network.save(tmp_path / "net.npz")
    given = data(network, 20)
    np.savez(tmp_path / "data.npz", images=given.images, labels=given.labels)
    common = (tmp_path / "net.npz", "--dataset", tmp_path / "data.npz", "--out", tmp_path / "out", "--json")
    code, out, line = command(*common, "--board", "tang-nano-9k")
    assert code == 0
    assert line == "note: tang-nano-9k: whether a pipeline fits a Gowin is known after synthesis: the area model is of an ECP5"
    found = json.loads(out)
    assert [found[name] for name in ("board", "plan", "lanes", "clock_mhz")] == ["tang-nano-9k", "minimal", 2, 27]
    assert "short_of" not in found
    assert found["cycles_per_frame"] == json.loads(command(*common, "--plan", "minimal")[1])["cycles_per_frame"]
    code, out, _ = command(*common, "--board", "tang-primer-20k", "--plan", "fast", "--clock", 50)
    assert (code, json.loads(out)["plan"], json.loads(out)["clock_mhz"]) == (0, "fast", 50)
    code, out, _ = command(*common, "--board", "icebreaker")
    found = json.loads(out)
    assert (code, found["plan"], found["clock_mhz"], found["short_of"], found["slowest_part"]) == (0, "folded", 24, [], "walker")
    for board, plan in (("tang-nano-9k", "minimal"), ("icebreaker", "folded")):
        assert command(*common, "--board", board, "--max-lanes", 5) == (
            2,
            "",
            f"error: --target-fps, --max-lanes and --max-lut must not be given with --board {board}: they plan a pipeline on an "
            f"ECP5, and this board takes plan {plan!r}",
        )


def test_a_plan_is_saved_over_nothing_else(tmp_path):
    network = small()
    network.save(tmp_path / "net.npz")
    given = data(network, 20)
    np.savez(tmp_path / "data.npz", images=given.images, labels=given.labels)
    for name in ("net", "data"):
        (tmp_path / f"{name}.json").symlink_to(f"{name}.npz")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    common = (tmp_path / "net.npz", "--dataset", tmp_path / "data.npz", "--out", tmp_path / "out")
    for plan, what in (("net.json", "the network"), ("data.json", "the dataset"), ("out/../out/estimate.json", "the report")):
        code, out, line = command(*common, "--save-plan", tmp_path / plan)
        wanted = f"error: --save-plan must not be {what}, {str(tmp_path / plan)!r}: it would be overwritten"
        assert (code, out, line) == (2, "", wanted)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
