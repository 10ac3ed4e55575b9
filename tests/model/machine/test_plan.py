"""Plans: the named ones, the rules, and the file form."""

import json
import random
import re
from dataclasses import asdict, replace

import pytest

from boards.bundled import BUNDLED
from model.machine.checks import check_plan
from model.machine.named_plans import DEFAULT_LANES, NAMED_PLANS, load_plan, named_plan, steps_per_event
from model.machine.plan import CorePlan, Plan, PlanError
from model.machine.stages import refused_by_hardware, stages
from model.network import MaxPool, Network, Shape
from model.studies.random_network import drawn
from model.support.names import LAYER_NAME, SAFE_NAME
from sim.generators.networks import random_convolution, random_network
from tests.mutations import loaded, mutated_bytes, mutated_tree

NETWORK = random_network(1)


def test_named_plans():
    plans = {name: named_plan(NETWORK, name) for name in NAMED_PLANS}
    assert plans["minimal"].lanes == len(plans["minimal"].cores)
    assert plans["default"].lanes <= DEFAULT_LANES
    assert all(steps_per_event(NETWORK, core) == 1 for core in plans["fast"].cores)
    with pytest.raises(PlanError, match=r"^plan must be a file or one of minimal, default, fast, folded, not 'huge'$"):
        named_plan(NETWORK, "huge")


def test_stages_fuse_a_pool_that_alone_reads_a_layer():
    assert [[layer.name for layer in stage.layers] for stage in stages(NETWORK)] == [
        ["conv1", "pool1"],
        ["pool2"],
        ["side"],
        ["conv2"],
        ["fc1"],
        ["fc2"],
    ]


def test_file_form(tmp_path):
    plan, path = named_plan(NETWORK, "fast"), tmp_path / "plan.json"
    plan.save(path)
    assert Plan.load(path) == plan == load_plan(NETWORK, str(path))
    for text, message in (
        ("{", "must be a Tally plan file: .*"),
        ("[]", "must be a Tally plan file"),
        (path.read_text().replace('"version": 1', '"version": 7'), "version must be 1, not 7"),
        (path.read_text().replace('"rows"', '"rovs"'), r"core fields must be among \[.*\], not \['rovs'\]"),
        (path.read_text().replace('"channels": 3', '"channels": "x"'), "core '.*': channels must be an integer, not 'x'"),
    ):
        path.write_text(text)
        with pytest.raises(PlanError, match=f"^{re.escape(str(path))}: {message}$"):
            Plan.load(path)
    with pytest.raises(PlanError, match=r"cannot be read: No such file or directory$"):
        Plan.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 99}, "plan 'test': core 'conv1': channels must be within 1..{c}, not 99"),
        ({"channels": 1, "columns": 2}, "plan 'test': core 'conv1': columns must be 1 unless channels is {c}, not 2"),
        ({"channels": 1, "rows": 2}, "plan 'test': core 'conv1': rows must be 1 unless channels is {c}, not 2"),
    ],
)
def test_nesting(change, message):
    plan = replace(named_plan(NETWORK, "minimal"), name="test")
    channels = NETWORK.shape_of("conv1").channels
    if channels == 1:
        pytest.fail("the network must have more channels")
    cores = (replace(plan.cores[0], **change), *plan.cores[1:])
    with pytest.raises(PlanError, match=f"^{re.escape(message.format(c=channels))}$"):
        check_plan(NETWORK, replace(plan, cores=cores))


def test_fifos_after_max_pools_of_deferred_networks():
    deferred = replace(NETWORK, firing="deferred")
    assert {core.pool_depth for core in named_plan(NETWORK, "fast").cores} == {16}
    for name in ("default", "fast"):
        depths = {core.layer: (core.pool_fifo, core.pool_depth) for core in named_plan(deferred, name).cores}
        others = dict.fromkeys(("side", "conv2", "fc1", "fc2"), (0, 16))
        assert depths == {"conv1": (64, 64), **others}
    plan = named_plan(NETWORK, "fast")
    deeper = replace(plan, cores=tuple(replace(core, pool_fifo=16) for core in plan.cores))
    assert plan.content_hash != deeper.content_hash


@pytest.mark.parametrize(("name", "layer"), [("fast", "side"), ("fast", "fc2"), ("folded", "c0")])
def test_a_core_without_a_max_pool_has_no_fifo_after_it(name, layer):
    """Nor has any of a folded machine."""
    network = NETWORK if name == "fast" else drawn("6x6x1: 3C3 P2 4F 3F")
    plan = named_plan(network, name)
    cores = tuple(replace(core, pool_fifo=32) if core.layer == layer else core for core in plan.cores)
    message = f"plan '{name}': core '{layer}': pool_fifo must be 0 in a core without a max-pool of its own, not 32"
    with pytest.raises(PlanError, match=f"^{re.escape(message)}$"):
        check_plan(network, replace(plan, cores=cores))


def moved(plan):
    """The plan with all its memories in LUTs."""
    cores = (
        replace(core, state_memory="distributed", tag_memory="distributed", weight_memory="distributed") for core in plan.cores
    )
    return replace(plan, cores=tuple(cores))


def test_memories_in_luts_are_part_of_a_plan(tmp_path):
    plan, path = named_plan(NETWORK, "fast"), tmp_path / "plan.json"
    in_luts = moved(plan)
    mixed = replace(plan, cores=tuple(replace(core, weight_memory="mixed") for core in plan.cores))
    tags = replace(plan, cores=tuple(replace(core, tag_memory="distributed") for core in plan.cores))
    split = replace(plan, cores=tuple(replace(core, weight_memory="split") for core in plan.cores))
    assert len({each.content_hash for each in (plan, in_luts, mixed, split, tags)}) == 5
    for each in (in_luts, mixed, split, tags):
        each.save(path)
        assert load_plan(NETWORK, str(path)) == each
    assert path.read_text().count('"tag_memory": "distributed"') == len(plan.cores)


def test_the_check_of_weights_is_part_of_a_plan(tmp_path):
    plan, path = named_plan(NETWORK, "minimal"), tmp_path / "plan.json"
    checked = replace(plan, weight_check=True)
    assert plan.content_hash != checked.content_hash
    for each in (plan, checked):
        each.save(path)
        assert load_plan(NETWORK, str(path)) == each
        assert ("weight_check" in path.read_text()) == each.weight_check


@pytest.mark.parametrize("name", ["cifar-resnet-plan", "cifar-small-plan"])
def test_a_plan_that_moves_nothing_is_written_as_before(name, tmp_path):
    path = BUNDLED.with_name(f"{name}.json")
    Plan.load(path).save(tmp_path / "plan.json")
    assert (tmp_path / "plan.json").read_bytes() == path.read_bytes()
    plan = named_plan(NETWORK, "minimal")
    # As it was before plans said where tags are.
    assert plan.content_hash == "34f8ee111cfb6b25234945957c85ec659d11dc127cd8adb3357a37ace534b2c2"


def test_values():
    with pytest.raises(PlanError, match=r"^core 'x': group_fifo must be within 8..1024, not 4$"):
        CorePlan(layer="x", group_fifo=4)
    with pytest.raises(PlanError, match=r"^core 'x': pool_fifo must be 0 or within 8..1024, not 7$"):
        CorePlan(layer="x", pool_fifo=7)
    with pytest.raises(PlanError, match=r"^architecture must be one of pipeline, folded, not 'other'$"):
        Plan(name="x", cores=(), architecture="other")


def test_what_folded_machines_do_not_walk():
    pool = MaxPool(name="p", source="input", window=(3, 2), stride=(2, 2))
    assert refused_by_hardware(pool) is None
    assert refused_by_hardware(pool, folded=True) == (
        "max-pooling with window (3, 2) and stride (2, 2) overlaps, which no folded machine walks",
        "build it with a plan of a pipeline",
    )
    grouped = random_convolution(0, inputs=1, channels=4, groups=2, name="c")
    message = (
        "layer 'c': a convolution of 2 groups is walked by no folded machine as such; build it with a plan of a pipeline, or "
        "convert with --ungroup, which writes it as an ordinary one"
    )
    network = Network(name="n", input_shape=Shape(8, 8, 2), layers=(grouped,))
    with pytest.raises(PlanError, match=f"^{re.escape(message)}$"):
        named_plan(network, "folded")
    named_plan(network, "fast")
    assert all(refused_by_hardware(layer, folded=True) is None for layer in NETWORK.layers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../x"}, f"name must be {SAFE_NAME}, not '../x'"),
        ({"name": "<script>"}, f"name must be {SAFE_NAME}, not '<script>'"),
        ({"name": "a\0b"}, f"name must be {SAFE_NAME}, not 'a\\x00b'"),
        ({"name": None}, f"name must be {SAFE_NAME}, not None"),
        ({"watch": "false"}, "watch must be true or false, not 'false'"),
        ({"inject": 1}, "inject must be true or false, not 1"),
        ({"states": None}, "states must be true or false, not None"),
        ({"weight_check": 1}, "weight_check must be true or false, not 1"),
        ({"architecture": ["folded"]}, "architecture must be one of pipeline, folded, not ['folded']"),
        ({"version": True}, "version must be 1, not True"),
        ({"cores": {}}, "cores must be a list, not {}"),
        ({"cores": [3]}, "core must be an object, not 3"),
        ({"cores": [{"layer": 3}]}, f"core's layer must be {LAYER_NAME}, not 3"),
        ({"cores": [{"layer": "a", "rows": True}]}, "core 'a': rows must be an integer, not True"),
        ({"cores": [{"layer": "a", "state_memory": None}]},
         "core 'a': state_memory must be one of auto, block, distributed, single_port, not None"),
        ({"cores": [{"layer": "a", "tag_memory": "block"}]},
         "core 'a': tag_memory must be one of auto, distributed, not 'block'"),
        ({"cores": [{"layer": "a", "weight_memory": ["mixed"]}]},
         "core 'a': weight_memory must be one of auto, block, split, mixed, distributed, single_port, not ['mixed']"),
    ],
)  # fmt: skip
def test_plan_files_that_lie(tmp_path, change, message):
    path = tmp_path / "plan.json"
    named_plan(NETWORK, "fast").save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PlanError, match=f"^{re.escape(f'{path}: {message}')}$"):
        load_plan(NETWORK, str(path))


def test_plan_files_that_say_two_things_or_too_much(tmp_path):
    path = tmp_path / "plan.json"
    for content, message in (
        (b'{"name": "a", "name": "b"}', "must be a Tally plan file: field 'name' must not be there twice"),
        (b"[" * 100_000, "must be a Tally plan file: must not be nested so deeply"),
        (b" " * ((1 << 22) + 1), "must be a Tally plan file, of at most 4194304 bytes"),
    ):
        path.write_bytes(content)
        with pytest.raises(PlanError, match=f"^{re.escape(f'{path}: {message}')}$"):
            Plan.load(path)


@pytest.mark.parametrize("seed", range(2))
def test_mutated_plan_files(tmp_path, seed):
    """Refused in one line, or accepted and then what the file says."""
    chance, path = random.Random(seed), tmp_path / "plan.json"
    named_plan(NETWORK, "fast").save(path)
    content, accepted = path.read_bytes(), 0
    tree = json.loads(content)

    def own(path):
        return load_plan(NETWORK, str(path))

    for _ in range(300):
        mutated = mutated_tree(tree, chance)
        path.write_text(json.dumps(mutated))
        plan = loaded(own, path)
        if plan is None:
            continue
        accepted += 1
        defaults = {"architecture": "pipeline", "inject": True, "watch": True, "states": False}
        plan.save(path)
        said = defaults | mutated
        # A check of weights is written only where there is one.
        if not said.get("weight_check", True):
            del said["weight_check"]
        said["cores"] = [asdict(CorePlan(layer=core["layer"])) | core for core in said["cores"]]
        # Where tags are is written only where it is said.
        assert {core.pop("tag_memory") for core in said["cores"]} == {"auto"}
        assert json.dumps(json.loads(path.read_text()), sort_keys=True) == json.dumps(said, sort_keys=True)
    assert 0 < accepted < 200
    for _ in range(100):
        path.write_bytes(mutated_bytes(content, chance))
        loaded(own, path)
