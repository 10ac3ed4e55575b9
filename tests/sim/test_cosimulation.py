"""Co-simulation: random networks at every plan in both simulators, planted faults, and the whole MNIST network."""

import inspect
import json
import re
import sys
import textwrap
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Mux
from click.testing import CliRunner
from filelock import FileLock, Timeout

from boards.bundled import BUNDLED
from hw.flow.verilog import machine_verilog, to_verilog
from hw.neuron import Comparison
from hw.pipeline.machine import Machine
from hw.pipeline.serializer import Serializer
from model.golden import run
from model.machine.named_plans import NAMED_PLANS, named_plan
from model.machine.stages import ports
from model.network import Network, Shape
from model.support.errors import ToolMissingError
from model.support.frames import real_frames
from sim.cosimulation import VerifyResult, verify
from sim.generators.chains import random_chain
from sim.generators.frames import random_frames
from sim.generators.networks import random_convolution, random_linear, random_network
from sim.simulators import SIMULATORS, check_simulator
from sim.verify import main


@pytest.mark.parametrize(
    ("plan", "simulator"),
    [
        *((plan, "verilator") for plan in NAMED_PLANS),
        ("minimal", "icarus"),
        ("default", "icarus"),
        pytest.param("fast", "icarus", marks=pytest.mark.full),
    ],
)
def test_random_network(simulator, plan, tmp_path):
    network = random_network(1)
    frames = random_frames(network.input_shape, 1, frames=6)
    behaviours = [*enumerate([(0, 0, False), (0.4, 0, True), (0, 0.6, True), (0.3, 0.3, True)])]
    # Icarus simulates the same machines far more slowly.
    for seed, (idle, stall, watch) in behaviours if simulator == "verilator" else behaviours[-1:]:
        result = verify(
            network,
            named_plan(network, plan),
            frames,
            simulator=simulator,
            out_dir=tmp_path,
            seed=seed,
            idle=idle,
            stall=stall,
            watch=watch,
        )
        assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
        assert result.cycles_compared > 1000
        assert result.frames == len(frames) == len(result.answers)
        assert result.spikes_compared > 1000
        assert result.coverage.frames == len(frames) and VerifyResult.of(asdict(result)) == result


@pytest.mark.parametrize("kind", ["minimal", "folded"])
def test_ports_watched_alone(kind, tmp_path):
    """Each link alone, and a layer whose link is that of its max-pool."""
    network = random_chain(7)
    plan = replace(named_plan(network, kind), watch=True)
    frames = random_frames(network.input_shape, 1, frames=6)
    links, seen = ports(network).values(), 0
    assert len(links) < len(network.layers) + 1
    for port in range(len(network.layers) + 1):
        result = verify(network, plan, frames, out_dir=tmp_path, seed=port, stall=0.4, watch=True, ports=1 << port)
        assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
        none = verify(network, plan, frames, out_dir=tmp_path, seed=port, stall=0.4)
        seen += result.cycles_compared > none.cycles_compared
    assert seen == len(links)


FAULTS = {
    # Greater than in place of greater or equal.
    "comparison": (Comparison, "upper_any=upper.any(),", "upper_any=upper.any() & ~((upper == 1) & ~lower.any()),"),
    # Spikes of channel 1 never leave.
    "dropped": (
        Serializer,
        "fires.eq(self.groups.payload.plus | self.groups.payload.minus)",
        "fires.eq((self.groups.payload.plus | self.groups.payload.minus) & ~2)",
    ),
    # The highest channel first.
    "order": (
        Serializer,
        "next_of(fires, selected, rest, more)",
        "[of.eq(Mux(fires[-1], to, other)) for of, to, other in ("
        "(selected, 1 << len(fires) - 1, fires & -fires),"
        "(rest, fires[:-1], fires & (fires - 1)),"
        "(more, fires[:-1].any(), (fires & (fires - 1)).any()))]",
    ),
}


def plant(monkeypatch, component, right, wrong):
    """Replace a piece of a component's source by a wrong one."""
    source = textwrap.dedent(inspect.getsource(component.elaborate))
    assert source.count(right) == 1, f"the place for the fault is gone: {right}"
    names = {**vars(sys.modules[component.__module__]), "Mux": Mux}
    exec(source.replace(right, wrong), names)
    monkeypatch.setattr(component, "elaborate", names["elaborate"])


@pytest.mark.parametrize(
    ("simulator", "fault"), [("verilator", "comparison"), *(("icarus", fault) for fault in FAULTS)]
)
def test_a_planted_fault_is_reported(simulator, fault, tmp_path, monkeypatch):
    network = random_network(1)
    # Of a single lane no two spikes leave together.
    plan = named_plan(network, "minimal" if fault == "comparison" else "default")
    frames = random_frames(network.input_shape, 1, frames=3)
    plant(monkeypatch, *FAULTS[fault])
    wrong = to_verilog(Machine(network=network, plan=plan), "machine")
    monkeypatch.undo()
    result = verify(network, plan, frames, simulator=simulator, out_dir=tmp_path, seed=11, verilog=wrong)
    assert result.mismatches > 0
    for word in (
        "frame ",
        "layer ",
        "event index",
        "neuron (y, x, c) = ",
        "expected",
        "found",
        "caused by       input event",
        "Q = ",
        "seed            11",
        f"simulator       {simulator}",
        "waveform        ",
    ):
        assert word in result.report, result.report
    layer = re.search(r"layer +(\w+)", result.report).group(1)
    # Of all neurons, one of conv1 is the first whose residual meets its threshold exactly.
    assert layer == {"comparison": "conv1", "dropped": "pool1", "order": "pool1"}[fault]
    assert Path(result.waveform).stat().st_size > 0
    assert (tmp_path / "divergence.txt").read_text().strip() == result.report


def test_a_cycle_too_many_is_reported(tmp_path):
    """The hardware of a plan whose FIFO is smaller fires the same spikes, in other cycles."""
    network = random_network(1)
    plan = named_plan(network, "minimal")
    smaller = replace(plan, cores=(replace(plan.cores[0], group_fifo=8), *plan.cores[1:]))
    frames = random_frames(network.input_shape, 1, frames=3)
    wrong = machine_verilog(network, smaller, tmp_path)
    result = verify(network, plan, frames, simulator="icarus", out_dir=tmp_path, seed=11, verilog=wrong, stall=0.5)
    assert result.mismatches == 0
    assert result.cycle_mismatches > 0
    assert re.search(r"\w+_\w+: token \d+ expected in cycle \d+, found in \d+", result.report)
    assert Path(result.waveform).stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("mnist-small", "minimal"),
        pytest.param("mnist-paper", "minimal", marks=pytest.mark.full),
        pytest.param("mnist-paper", "default", marks=pytest.mark.full),
    ],
)
def test_whole_mnist_network_on_a_real_digit(name, plan, tmp_path):
    network = Network.load(BUNDLED.with_name(f"{name}.npz"))
    images, labels, _ = real_frames(network, None, None, 1)
    result = verify(network, named_plan(network, plan), images, out_dir=tmp_path, idle=0.1, stall=0.1, watch=True)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.answers == labels.tolist()
    assert result.spikes_compared > 1000


@pytest.mark.full
@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("plan", NAMED_PLANS)
def test_whole_mnist_network_on_many_digits(simulator, plan, tmp_path):
    """Twenty of them in Verilator; four in Icarus, the second witness, which takes ten times as long."""
    network, digits = Network.load(BUNDLED.with_name("mnist-paper.npz")), 20 if simulator == "verilator" else 4
    images, _, _ = real_frames(network, None, None, digits)
    result = verify(network, named_plan(network, plan), images, simulator=simulator, out_dir=tmp_path)
    assert (result.mismatches, result.cycle_mismatches, result.report, len(result.answers)) == (0, 0, None, digits)
    if plan == "default":
        assert result.cycles_per_frame_mean <= 8000


def command(*args):
    done = CliRunner().invoke(main, [str(arg) for arg in args])
    return done.exit_code, done.stdout, done.stderr.strip().splitlines()


def test_command_prints_json(tmp_path):
    network = random_network(1)
    network.save(tmp_path / "net.npz")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, *network.input_shape), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.zeros(3, int))
    code, out, _ = command(tmp_path / "net.npz", "--frames", 3, "--dataset", tmp_path / "data.npz", "--out", tmp_path, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["frames"], found["mismatches"], found["cycle_mismatches"]) == (3, 0, 0)
    assert found["spikes_compared"] > 0
    assert found["cycles_per_frame_mean"] > 0
    assert [layer["layer"] for layer in found["coverage"]["layers"]] == [layer.name for layer in network.layers]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("none.npz",), "error: none.npz: cannot be read: No such file or directory"),
        ((BUNDLED, "--plan", "huge"), "error: plan must be a file or one of minimal, default, fast, folded, not 'huge'"),
        ((BUNDLED, "--dataset", "digits5k", "--frames", 99999), "error: frames must be within 1..1000 for digits5k, not 99999"),
    ],
)
def test_bad_input_gets_one_line(args, message):
    code, out, err = command(*args)
    assert (code, out, err[-1]) == (2, "", message)


def test_missing_simulator(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissingError, match=r"^iverilog is not installed; get it with: apt-get install iverilog$"):
        check_simulator("icarus")
    with pytest.raises(ValueError, match=r"^simulator must be one of verilator, icarus, not 'modelsim'$"):
        check_simulator("modelsim")


@pytest.mark.parametrize("plan", ["minimal", "folded"])
def test_the_sign_of_a_single_output_answers(plan, tmp_path):
    """Of one output, either class in RTL, from counts of both signs and of 0."""
    convolution = random_convolution(3, inputs=1, kernel=(3, 3), channels=2, threshold_log2=4)
    shape = Shape(5, 5, 1)
    size = convolution.output_shape(shape).size
    output = random_linear(3, inputs=size, outputs=1, source="conv", activation="identity", threshold_log2=5)
    network = Network(name="one", input_shape=shape, layers=(convolution, output))
    frames = random_frames(shape, 2, frames=12, events=12)
    counts = [run(network, events).counts.tolist() for events in frames]
    assert {np.sign(count) for (count,) in counts} == {-1, 0, 1}
    result = verify(network, named_plan(network, plan), frames, out_dir=tmp_path)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.answers == [int(count > 0) for (count,) in counts]


def test_a_verification_has_its_folder_for_itself(tmp_path, monkeypatch):
    """Of two in one folder each would take the other's record for its own."""
    class SimulatedError(Exception):
        """In place of a simulation."""

    def run(*args):
        with pytest.raises(Timeout):
            FileLock(tmp_path / "record.txt.lock", timeout=0).acquire()
        assert not (tmp_path / "divergence.txt").exists()
        raise SimulatedError

    network = random_network(1)
    (tmp_path / "divergence.txt").write_text("of an earlier run")
    monkeypatch.setattr("sim.cosimulation.build", lambda *args, **options: None)
    monkeypatch.setattr("sim.cosimulation._Bench.run", run)
    with pytest.raises(SimulatedError):
        verify(network, named_plan(network, "minimal"), random_frames(network.input_shape, 1, frames=1), out_dir=tmp_path)
    FileLock(tmp_path / "record.txt.lock", timeout=0).acquire()
