"""Netlists after synthesis against the golden model: every spike and cycle, faults in cells, and the model of block RAM."""

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from boards.bundled import BUNDLED
from boards.definitions import board_named
from hw.flow.families.ecp5 import ECP5
from hw.flow.families.gowin import GOWIN
from hw.flow.families.ice40 import ICE40
from hw.flow.tools import yosys_share
from hw.machines import machine_of
from hw.pipeline.machine import Machine
from model.machine.folded_layout import Folded
from model.machine.named_plans import named_plan
from model.machine.plan import PlanError
from model.network import Convolution, Linear, MaxPool, Network, Padding, Shape
from model.projection import LinearProjection
from model.support.errors import Exit
from model.support.frames import real_frames
from sim.cosimulation import CACHE, verify
from sim.generators.frames import random_frames
from sim.generators.networks import bursting, random_convolution, random_linear
from sim.netlist import BLOCK_RAM, cell_models, machine_netlist, netlist_verilog
from sim.simulators import SimulationError
from sim.verify import main
from tests.sim.test_gowin_bsram import CASES


def need_icarus():
    if not shutil.which("iverilog"):
        pytest.skip("iverilog is not installed; get it with: apt-get install iverilog")


@cache
def small():
    """A network and plan that synthesize in seconds, and yet use every kind of cell; weights and states in block RAM."""
    convolution = random_convolution(
        3, inputs=1, name="conv", channels=3, kernel=(3, 3), stride=(1, 1), padding=Padding(1, 1, 1, 1), potential_bits=9
    )
    layers = (
        convolution,
        MaxPool(name="pool", source="conv", window=(2, 2), stride=(2, 2)),
        random_linear(4, inputs=48, outputs=11, name="fc", source="pool", activation="identity"),
    )
    network = Network(name="small", input_shape=Shape(8, 8, 1), layers=layers)
    return network, replace(named_plan(network, "minimal"), watch=False, inject=False)


@pytest.mark.parametrize("simulator", ["icarus", pytest.param("verilator", marks=pytest.mark.full)])
def test_a_netlist_fires_the_same_spikes_in_the_same_cycles(simulator, tmp_path):
    if simulator == "icarus":
        need_icarus()
    network, plan = small()
    shape = network.input_shape
    frames = [*random_frames(shape, 1, frames=1), *random_frames(shape, 2, frames=1, events=30, near=True)]
    lines = []
    result = verify(
        network,
        plan,
        frames,
        level="netlist",
        simulator=simulator,
        out_dir=tmp_path,
        idle=0.3,
        stall=0.3,
        line=lines.append,
    )
    assert (result.level, result.mismatches, result.cycle_mismatches, result.report) == ("netlist", 0, 0, None)
    assert result.spikes_compared > 400
    assert result.cycles_compared > 750
    assert len(result.answers) == len(frames)
    assert f"simulating with {simulator}" in lines
    # Words were read while they were written, in a state memory and in that of a pool, and what was read never mattered.
    log = (tmp_path / "simulation.log").read_text()
    collisions = set(re.findall(r"dut\.(\S+): read while it is written", log))
    assert len(collisions) == 2
    assert sum("projection.state" in place for place in collisions) == 1
    netlist = machine_netlist(Machine(network=network, plan=plan), cache=CACHE, log=tmp_path / "synthesis.log")
    assert set(netlist.cells) >= {"LUT4", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4"}
    assert netlist.cells["DP16KD"] == 3
    assert re.search(r'REGMODE_[AB]\("OUTREG"\)', netlist.verilog)


@pytest.mark.full
@pytest.mark.parametrize("family", [ECP5, GOWIN], ids=lambda family: family.NAME)
def test_a_netlist_with_memories_in_luts_fires_the_same_spikes_in_the_same_cycles(family, tmp_path):
    """States, weights, and tags that are so wide that they were in block RAM otherwise; the pool's memory stays there."""
    need_icarus()
    network, plan = small()
    in_luts = {"state_memory": "distributed", "tag_memory": "distributed", "weight_memory": "distributed"}
    plan = replace(plan, cores=tuple(replace(core, generation_bits=8, **in_luts) for core in plan.cores))
    machine = Machine(network=network, plan=plan)
    assert sum(memory.freed_blocks for memory in machine.memories) == 3
    frames = random_frames(network.input_shape, 1, frames=2, near=True)
    result = verify(
        network, plan, frames, level="netlist", family=family, simulator="icarus", out_dir=tmp_path, idle=0.3, stall=0.3
    )
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert min(result.spikes_compared, result.cycles_compared) > 400
    netlist = machine_netlist(machine, cache=CACHE, log=tmp_path / "synthesis.log", family=family)
    kinds = ("DP16KD", "SDP", "DP", "SP", "pROM")
    blocks = {kind: count for kind, count in netlist.cells.items() if kind.startswith(kinds)}
    assert sum(blocks.values()) == sum(memory.blocks for memory in machine.memories) == 1
    if family is ECP5:
        found = re.findall(r"TRELLIS_DPR16X4 #\(.*?\) \\core_pool\.projection\.(state_0\.\w+)", netlist.verilog)
        told = {memory.name.removeprefix("core_pool.projection."): memory.lut_rams for memory in machine.memories if memory.moved}
        assert Counter(found) == Counter({name: count for name, count in told.items() if count})


def test_an_ice40_has_no_netlist_with_ram_of_luts(tmp_path):
    network, plan = small()
    cores = tuple(replace(core, state_memory="distributed") for core in plan.cores)
    message = r"^plan 'minimal': core 'conv': state_memory must not be 'distributed' on an iCE40, which has no RAM made of LUTs$"
    with pytest.raises(PlanError, match=message):
        verify(network, replace(plan, cores=cores), [], level="netlist", family=ICE40, simulator="icarus", out_dir=tmp_path)


def test_a_netlist_for_ice40_fires_the_same_spikes_in_the_same_cycles(tmp_path):
    need_icarus()
    network, plan = small()
    frames = random_frames(network.input_shape, 1, frames=1, events=25)
    result = verify(
        network, plan, frames, level="netlist", family=ICE40, simulator="icarus", out_dir=tmp_path, idle=0.3, stall=0.3
    )
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.spikes_compared > 100
    machine = Machine(network=network, plan=plan)
    netlist = machine_netlist(machine, cache=CACHE, log=tmp_path / "synthesis.log", family=ICE40)
    kinds = set(netlist.cells)
    assert kinds >= {"SB_LUT4", "SB_CARRY", "SB_DFF", "SB_RAM40_4K"}
    assert all(kind.startswith(("SB_LUT4", "SB_CARRY", "SB_DFF", "SB_RAM40_4K")) for kind in kinds)


@pytest.mark.parametrize("simulator", ["icarus", pytest.param("verilator", marks=pytest.mark.full)])
def test_a_netlist_for_gowin_fires_the_same_spikes_in_the_same_cycles(simulator, tmp_path):
    if simulator == "icarus":
        need_icarus()
    network, plan = small()
    shape = network.input_shape
    frames = [*random_frames(shape, 1, frames=1), *random_frames(shape, 2, frames=1, events=30, near=True)]
    result = verify(
        network, plan, frames, level="netlist", family=GOWIN, simulator=simulator, out_dir=tmp_path, idle=0.3, stall=0.3
    )
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.spikes_compared > 400
    assert result.cycles_compared > 750
    # Words were read while they were written, and what was read never mattered.
    assert re.search(r"core_pool\.pool\.state\S*: read while it is written", (tmp_path / "simulation.log").read_text())
    machine = Machine(network=network, plan=plan)
    netlist = machine_netlist(machine, cache=CACHE, log=tmp_path / "synthesis.log", family=GOWIN)
    assert set(netlist.cells) >= {"LUT4", "ALU", "DFF", "DFFRE", "DFFSE", "RAM16SDP4", "IBUF", "OBUF"}
    assert gowin_blocks(netlist.verilog) == {("SPX9", 9, 9), ("SDPX9B", 36, 36), ("DPX9B", 18, 18)}
    assert gowin_blocks(netlist.verilog) <= {(case.kind, *case.widths) for case in CASES}


def gowin_blocks(netlist):
    """Kinds and widths of a netlist's block RAMs."""
    found = re.findall(r"^  (\w+) #\(\.BIT_WIDTH(?:_0)?\(32'b([01]+)\), (?:\.BIT_WIDTH_1\(32'b([01]+)\))?", netlist, re.MULTILINE)
    return {(kind, int(width, 2), int(other or width, 2)) for kind, width, other in found}


@cache
def restful():
    """A network that fires deferred, whose max-pool is padded, and whose frames start by border class."""
    same = {"kernel": (3, 3), "stride": (1, 1), "padding": Padding(1, 1, 1, 1), "channels": 2}
    layers = (
        replace(random_convolution(5, inputs=1, name="conv1", threshold_log2=5, **same), bias=np.array([50, 80])),
        random_convolution(6, inputs=2, name="conv2", source="conv1", **same),
        MaxPool(name="pool", source="conv2", window=(2, 2), stride=(2, 2), padding=Padding(1, 0, 0, 1)),
        random_linear(7, inputs=18, outputs=5, name="fc", source="pool", activation="identity"),
    )
    return Network(name="restful", input_shape=Shape(5, 5, 1), layers=layers, firing="deferred", rest=True)


@pytest.mark.full
@pytest.mark.parametrize("machine", ["ecp5, pipeline", "ice40, folded"])
@pytest.mark.parametrize("fires", ["deferred", "deferred, from rest", "bursts"])
def test_a_netlist_of_other_firing_fires_the_same_spikes_in_the_same_cycles(fires, machine, tmp_path):
    need_icarus()
    network = {
        "deferred": replace(small()[0], firing="deferred"),
        "deferred, from rest": restful(),
        "bursts": bursting(small()[0], (4, 0), 5),
    }[fires]
    family, plan = {"ecp5, pipeline": (ECP5, "minimal"), "ice40, folded": (ICE40, "folded")}[machine]
    frames = random_frames(network.input_shape, 1, frames=2, events=25)
    result = verify(
        network, named_plan(network, plan), frames, level="netlist", family=family, simulator="icarus", out_dir=tmp_path,
        idle=0.3, stall=0.3,
    )
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert min(result.spikes_compared, result.cycles_compared) > 400
    layers = result.coverage.layers
    # Several spikes at once, of all neurons and windows that fire so.
    assert all(layer.burst_updates for layer in layers if network.deferred or layer.layer != "pool")
    if network.rest:
        assert layers[1].border_classes == layers[1].border_classes_used == 9
        assert all(layer.rest_neurons for layer in layers)
    if family is ECP5:
        built = Machine(network=network, plan=named_plan(network, plan))
        cells = machine_netlist(built, cache=CACHE, log=tmp_path / "synthesis.log").cells
        assert cells["DP16KD"] == sum(memory.blocks for memory in built.memories)
        if network.rest:
            initial = {memory.name for memory in built.memories if "initial" in memory.name}
            assert initial == {"core_pool.projection.initial_0", "core_pool.pool.initial"}


@pytest.mark.full
def test_a_netlist_of_a_graph_fires_the_same_spikes_in_the_same_cycles(tmp_path):
    """A layer that takes a max-pool and, around it, what the pool takes; with flushes within a frame."""
    need_icarus()
    rng, numbers = np.random.default_rng(1), {"threshold_log2": 3, "weight_bits": 6}
    shortcut = LinearProjection(source="conv", weights=rng.integers(-9, 20, (3, 32)))
    layers = (
        Convolution(name="conv", source="input", weights=rng.integers(-9, 20, (2, 1, 1, 1)), bias=np.zeros(2, int), **numbers),
        MaxPool(name="pool", source="conv", window=(2, 2), stride=(2, 2)),
        Linear(
            name="out", source="pool", weights=rng.integers(-9, 20, (3, 8)), bias=np.zeros(3, int), activation="identity",
            joined=(shortcut,), **numbers,
        ),
    )  # fmt: skip
    network = Network(name="around", input_shape=Shape(4, 4, 1), layers=layers, firing="deferred", flush_events=4)
    frames = random_frames(network.input_shape, 1, frames=5, events=25)
    result = verify(
        network, named_plan(network, "minimal"), frames, level="netlist", family=ECP5, simulator="icarus", out_dir=tmp_path,
        idle=0.3, stall=0.3,
    )  # fmt: skip
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert min(result.spikes_compared, result.cycles_compared) > 100


@pytest.mark.full
def test_both_series_of_gowin_have_the_same_netlist(tmp_path):
    network, plan = small()
    netlists = [
        machine_netlist(
            Machine(network=network, plan=plan), cache=CACHE, log=tmp_path / "log", family=GOWIN, part=board_named(board).target
        )
        for board in ("tang-nano-9k", "tang-primer-20k")
    ]
    assert netlists[0] == netlists[1]


def test_a_folded_machine_with_large_memories_has_no_netlist_for_other_families(tmp_path):
    """One line, before anything is synthesized."""
    arguments = [str(BUNDLED.with_name("mnist-sparse.npz")), "--plan", "folded", "--level", "netlist", "--family", "gowin"]
    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path)])
    assert done.exit_code == Exit.BAD_INPUT
    assert done.stderr.splitlines()[-1] == (
        "error: plan 'folded': family must be one with large memories (ice40), not 'gowin'"
    )


def test_what_a_model_of_gowin_does_not_do_ends_the_simulation(tmp_path):
    need_icarus()
    network, plan = small()
    netlist = machine_netlist(Machine(network=network, plan=plan), cache=CACHE, log=tmp_path / "log", family=GOWIN)
    wrong = netlist.verilog.replace(".READ_MODE(1'b0)", ".READ_MODE(1'b1)", 1)
    assert wrong != netlist.verilog
    frames = random_frames(network.input_shape, 1, frames=1)
    with pytest.raises(SimulationError, match=r"block: READ_MODE must be 0, as the model has no output register, not 1$"):
        verify(
            network, plan, frames, level="netlist", family=GOWIN, simulator="icarus", out_dir=tmp_path, verilog=wrong
        )


def test_what_has_no_model_is_said():
    with pytest.raises(SimulationError, match=r"^there is no model of cell SB_MAC17$"):
        cell_models(["SB_LUT4", "SB_MAC17"], ICE40)


def changed_lut(netlist):
    """The netlist with one bit changed in a LUT that says whether a neuron of the convolution fires."""
    registers = re.findall(r"  TRELLIS_FF .*\.Q\(\\core_pool\.projection\.plus_0\S* \).*", netlist)
    found = (re.search(r"\.(?:DI|M)\((\S+) \)", register) for register in registers)
    nets = [data[1] for data in found if data]
    cells = (re.search(rf"  LUT4 #\(\.INIT\(16'b([01]+)\)\) .*\.Z\({re.escape(net)} \)\);", netlist) for net in nets)
    cell = next(cell for cell in cells if cell)
    inputs = [re.search(rf"\.{pin}\(([^)]+)\)", cell[0])[1] for pin in "ABCD"]
    # A bit that inputs tied to a constant can choose.
    tied = [(n, int(pin[-1])) for n, pin in enumerate(inputs) if pin in ("1'b0", "1'b1")]
    at = next(at for at in range(16) if all(at >> n & 1 == level for n, level in tied))
    init = cell[1][: 15 - at] + str(1 - int(cell[1][15 - at])) + cell[1][16 - at :]
    return netlist.replace(cell[0], cell[0].replace(cell[1], init))


def changed_gowin_lut(netlist):
    """The same, of a netlist for Gowin."""
    nets = re.findall(r"  DFF\w* .*\.D\((\S+) \), \.Q\(\\core_pool\.projection\.plus_0\S* \).*", netlist)
    cells = (re.search(rf"  LUT(\d) #\(\.INIT\(\d+'b([01]+)\)\) .*\.F\({re.escape(net)} \).*", netlist) for net in nets)
    cell = next(cell for cell in cells if cell)
    init = cell[2]
    return netlist.replace(cell[0], cell[0].replace(init, init[:-1] + str(1 - int(init[-1]))))


def changed_weight(netlist):
    """The netlist with the sign of one weight changed, in the first word of a block RAM."""
    cell = re.search(r"  (?:DP16KD|SPX9) #\(.*\) \\core_fc\S*weights\S* \(.*", netlist)[0]
    init = re.search(r"\.INIT(?:VAL|_RAM)_00\(\d+'b([01]+)\)", cell)[1]
    wrong = init[:-8] + str(1 - int(init[-8])) + init[-7:]
    return netlist.replace(cell, cell.replace(init, wrong, 1))


@pytest.mark.parametrize(
    ("family", "fault", "layer"),
    [
        (ECP5, changed_lut, "conv"), (ECP5, changed_weight, "fc"),
        (GOWIN, changed_gowin_lut, "conv"), (GOWIN, changed_weight, "fc"),
    ],
)
def test_one_wrong_bit_is_found(family, fault, layer, tmp_path):
    need_icarus()
    network, plan = small()
    machine = Machine(network=network, plan=plan)
    right = machine_netlist(machine, cache=CACHE, log=tmp_path / "synthesis.log", family=family).verilog
    wrong = fault(right)
    assert len(wrong) == len(right) and sum(a != b for a, b in zip(wrong, right, strict=True)) == 1
    frames = random_frames(network.input_shape, 1, frames=1, events=12)[:1]
    result = verify(
        network, plan, frames, level="netlist", family=family, simulator="icarus", out_dir=tmp_path, seed=11, verilog=wrong
    )
    assert result.mismatches > 0
    assert re.search(r"layer +(\w+)", result.report)[1] == layer
    assert Path(result.waveform).stat().st_size > 0


@pytest.mark.full
def test_netlist_of_the_whole_mnist_network_on_a_real_digit(tmp_path):
    """A lane per core, but 32 in fc1: its memory of weights would have more words than Yosys' WebAssembly build can read."""
    network = Network.load(BUNDLED.with_name("mnist-paper.npz"))
    plan = named_plan(network, "minimal")
    cores = tuple(replace(core, channels=32) if core.layer == "fc1" else core for core in plan.cores)
    plan = replace(plan, name="small", cores=cores)
    images, labels, _ = real_frames(network, None, None, 1)
    result = verify(network, plan, images, level="netlist", out_dir=tmp_path)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.answers == labels.tolist()
    assert result.spikes_compared > 1000
    assert "read while it is written" in (tmp_path / "simulation.log").read_text()


@pytest.mark.full
@pytest.mark.parametrize("family", [ECP5, GOWIN], ids=lambda family: family.NAME)
def test_netlist_of_the_small_mnist_network_on_a_real_digit(family, tmp_path):
    network = Network.load(BUNDLED.with_name("mnist-small.npz"))
    plan = named_plan(network, "minimal")
    images, labels, _ = real_frames(network, None, None, 1)
    result = verify(network, plan, images, level="netlist", family=family, out_dir=tmp_path)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.answers == labels.tolist()
    assert result.spikes_compared > 1000
    if family is GOWIN:
        machine = Machine(network=network, plan=plan)
        netlist = machine_netlist(machine, cache=CACHE, log=tmp_path / "synthesis.log", family=GOWIN)
        assert gowin_blocks(netlist.verilog) <= {(case.kind, *case.widths) for case in CASES}


@pytest.mark.full
def test_netlist_for_ice40_of_the_whole_network_on_one_core(tmp_path):
    """Folded, it is small enough: weights are loaded into Yosys' models of SPRAM."""
    network = Network.load(BUNDLED.with_name("mnist-sparse.npz"))
    images = real_frames(network, None, None, 1)[0]
    plan = named_plan(network, "folded")
    result = verify(network, plan, images, level="netlist", family=ICE40, out_dir=tmp_path)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.spikes_compared > 1000
    netlist = machine_netlist(machine_of(network, plan), cache=CACHE, log=tmp_path / "synthesis.log", family=ICE40)
    assert (netlist.cells["SB_SPRAM256KA"], netlist.cells["SB_RAM40_4K"]) == (4, Folded.of(network, plan).blocks)


def test_netlist_verilog():
    """Ports stay vectors, nets become bits under their names, constants and texts keep their form."""
    module = {
        "ports": {
            "clk": {"direction": "input", "bits": [2]},
            "a": {"direction": "input", "bits": [3, 4]},
            "z": {"direction": "output", "bits": [5]},
            "y": {"direction": "output", "bits": [6, "0"]},
        },
        "netnames": {
            "clk": {"bits": [2]},
            "a": {"bits": [3, 4]},
            "z": {"bits": [5]},
            "y": {"bits": [6, "0"]},
            "y[0]": {"bits": [7]},
        },
        "cells": {
            "one": {
                "type": "LUT4",
                "parameters": {"INIT": "0000000000000010", "MODE": "1 ", "NAME": "CE"},
                "connections": {"A": [3], "B": [4], "C": ["x"], "D": ["1"], "Z": [5]},
            },
            "two": {"type": "WIDE", "parameters": {}, "connections": {"I": [5, "0"], "O": [6, 7]}},
            "note": {"type": "$scopeinfo", "parameters": {}, "connections": {}},
        },
    }
    assert netlist_verilog(module, "top").splitlines() == [
        "module top(input \\clk , input [1:0] \\a , output \\z , output [1:0] \\y );",
        "  wire \\net$5 ;",
        "  wire \\y[0] ;",
        "  wire \\net$7 ;",
        "  LUT4 #(.INIT(16'b0000000000000010), .MODE(\"1\"), .NAME(\"CE\")) "
        "\\one (.A(\\a [0]), .B(\\a [1]), .C(1'bx), .D(1'b1), .Z(\\net$5 ));",
        "  WIDE #() \\two (.I({1'b0, \\net$5 }), .O({\\net$7 , \\y[0] }));",
        "  assign \\z = \\net$5 ;",
        "  assign \\y = {1'b0, \\y[0] };",
        "endmodule",
    ]


def test_models_of_cells_for_gowin():
    """Ours in place of Yosys', once for all cells of a file."""
    models = cell_models(["DFFRE", "SPX9", "SDPX9B", "ALU"], GOWIN)
    names = re.findall(r"^module (\w+)", models, re.MULTILINE)
    assert names == ["DFFRE", "ALU", "TALLY_BSRAM", "SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B"]
    with pytest.raises(SimulationError, match=r"^there is no model of cell pROM$"):
        cell_models(["LUT4", "pROM"], GOWIN)


def test_models_of_cells():
    models = cell_models(["CCU2C", "DP16KD"])
    assert re.findall(r"^module (\w+)", models, re.MULTILINE) == ["CCU2C", "LUT2", "LUT4", "DP16KD"]
    assert "specify" not in models
    assert (yosys_share() / "ecp5" / "cells_sim.v").exists()
    with pytest.raises(SimulationError, match=r"^there is no model of cell WARP9$"):
        cell_models(["LUT4", "WARP9"])


IDLE = {f"{pin}{side}": int(pin in ("CE", "OCE")) for side in "AB" for pin in ("AD", "DI", "CE", "OCE", "WE", "RST", "CS")}


def block(folder, parameters, steps):
    """What comes out at ports A and B of a block RAM after each cycle, in hexadecimal; pins of a step that are not named
    are idle: enabled, reading address 0."""
    need_icarus()
    widths = {"AD": 14, "DI": 18, "DO": 18, "CS": 3}
    pins = [f"{kind}{side}" for side in "AB" for kind in ("AD", "DI", "DO", "CS", "CE", "OCE", "WE", "RST")]
    connected = [
        f".{pin}{n if pin[:2] in widths else ''}({pin}[{n}])" for pin in pins for n in range(widths.get(pin[:2], 1))
    ]
    signals = [f"{'wire' if pin[:2] == 'DO' else 'reg'} [{widths.get(pin[:2], 1) - 1}:0] {pin};" for pin in pins]
    given = ", ".join(f".{name}({value})" for name, value in parameters.items())
    lines = [
        f"{' '.join(f'{pin} = {value};' for pin, value in {**IDLE, **step}.items())} #1 clk = 1; #1 clk = 0; "
        '$display("%h %h", DOA, DOB);'
        for step in steps
    ]
    newline = "\n    "
    (folder / "bench.v").write_text(f"""
module bench;
  reg clk = 0; {' '.join(signals)}
  DP16KD #({given}) dut(.CLKA(clk), .CLKB(clk), {', '.join(connected)});
  initial begin
    {newline.join(lines)}
  end
endmodule
""")
    for command in (["iverilog", "-g2005", "-o", "bench", "bench.v", str(BLOCK_RAM)], ["vvp", "bench"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    return [tuple(line.split()) for line in done.stdout.splitlines() if re.fullmatch(r"[0-9a-fxX]+ [0-9a-fxX]+", line)]


FIRST_WORDS = "320'h" + "12345" + "00000" * 14 + "0abcd"
"""Word 0 is 0abcd, word 15 is 12345."""


@pytest.mark.parametrize(
    ("width", "addresses", "found"),
    [
        # 0abcd is 0_0101_0101_1_1100_1101: bytes 1cd and 055.
        (18, [0 << 4, 15 << 4], ["0abcd", "12345"]),
        (9, [0 << 3, 1 << 3, 30 << 3, 31 << 3], ["001cd", "00055", "00145", "00091"]),
        (4, [0 << 2, 1 << 2, 2 << 2, 3 << 2], ["0000d", "0000c", "00005", "00005"]),
        (2, [0 << 1, 1 << 1, 2 << 1, 3 << 1, 4 << 1], ["00001", "00003", "00000", "00003", "00001"]),
        (1, [0, 1, 2, 3, 7, 8], ["00001", "00000", "00001", "00001", "00001", "00001"]),
    ],
)
def test_block_reads_initial_values(width, addresses, found, tmp_path):
    parameters = {"INITVAL_00": FIRST_WORDS, "DATA_WIDTH_A": width, "DATA_WIDTH_B": width}
    steps = [{"ADA": addr, "ADB": addr} for addr in addresses]
    assert block(tmp_path, parameters, steps) == [(word, word) for word in found]


def test_block_of_36_bits(tmp_path):
    """Written at A from both ports' inputs, byte by byte; read at B, the lower half comes at A."""
    parameters = {"DATA_WIDTH_A": 36, "DATA_WIDTH_B": 36, "INITVAL_00": FIRST_WORDS}
    steps = [
        {"ADB": 7 << 5},
        {"ADA": 3 << 5 | 0b1111, "WEA": 1, "DIA": 0x2AAAA, "DIB": 0x15555, "ADB": 1 << 5},
        {"ADA": 3 << 5 | 0b0110, "WEA": 1, "DIA": 0, "DIB": 0, "ADB": 3 << 5},
        {"ADA": 3 << 5, "WEA": 1, "ADB": 3 << 5},
        {"ADB": 3 << 5},
    ]
    found = block(tmp_path, parameters, steps)
    assert found[0] == ("00000", "12345")
    assert found[1] == ("00000", "00000")
    # 2aaaa is bytes 0aa and 155, 15555 is 155 and 0aa; the middle two are being written.
    assert found[2] == ("xxXaa", "15Xxx")
    assert found[3] == found[4] == ("000aa", "15400")


def test_block_of_two_widths(tmp_path):
    """Written as bytes, read as words of 36 bits, of which byte 0 is the lowest."""
    steps = [{"ADA": n << 3, "WEA": 1, "DIA": 0x100 | n + 1, "ADB": 1 << 5} for n in range(4)]
    found = block(tmp_path, {"DATA_WIDTH_A": 9, "DATA_WIDTH_B": 36}, [*steps, {"ADB": 0}])
    # 104 103 | 102 101, each of nine bits.
    assert found[-1] == (f"{0x102 << 9 | 0x101:05x}", f"{0x104 << 9 | 0x103:05x}")
    steps = [{"ADA": 0b1111, "WEA": 1, "DIA": 0x102 << 9 | 0x101, "DIB": 0x104 << 9 | 0x103, "ADB": 1 << 5}]
    found = block(tmp_path, {"DATA_WIDTH_A": 36, "DATA_WIDTH_B": 9}, [*steps, *({"ADB": n << 3} for n in range(4))])
    assert [b for _, b in found[1:]] == ["00101", "00102", "00103", "00104"]


def test_block_writes_single_bits(tmp_path):
    steps = [{"ADA": n, "WEA": 1, "DIA": 1, "ADB": 1 << 4} for n in (1, 9, 15)]
    found = block(tmp_path, {"DATA_WIDTH_A": 1, "DATA_WIDTH_B": 18}, [*steps, {"ADB": 0}])
    # Bits 1 of byte 0, and 1 and 7 of byte 1; the ninth of byte 0 lies between them.
    assert found[-1][1] == f"{1 << 1 | 1 << 10 | 1 << 16:05x}"


@pytest.mark.parametrize(("mode", "found"), [("NORMAL", "00000"), ("READBEFOREWRITE", "0abcd"), ("WRITETHROUGH", "0ab11")])
def test_block_writes_and_reads_at_one_port(mode, found, tmp_path):
    """Only the lower byte is written: 0abcd becomes 055 and 111."""
    parameters = {"WRITEMODE_A": f'"{mode}"', "INITVAL_00": FIRST_WORDS}
    steps = [{"ADA": 1 << 4}, {"ADA": 0b01, "WEA": 1, "DIA": 0x3FF11, "ADB": 1 << 4}, {"ADA": 0}]
    assert [a for a, _ in block(tmp_path, parameters, steps)] == ["00000", found, "0ab11"]


def test_block_reads_garbage_where_the_other_port_writes(tmp_path):
    parameters = {"INITVAL_00": FIRST_WORDS}
    steps = [
        {"ADA": 0b10, "WEA": 1, "DIA": 0x0ABCD, "ADB": 0},
        {"ADA": 0b00, "WEA": 1, "DIA": 0, "ADB": 0},
        {"ADA": 0b11, "WEA": 1, "DIA": 0, "ADB": 15 << 4},
        {"ADA": 15 << 4, "ADB": 15 << 4 | 0b11, "WEB": 1, "DIB": 0x00007},
        {"ADA": 15 << 4, "ADB": 15 << 4},
        {"ADA": 1 << 4 | 0b01, "WEA": 1, "DIA": 0x00055, "ADB": 1 << 4 | 0b10, "WEB": 1, "DIB": 0x2AA00},
        {"ADA": 1 << 4, "ADB": 1 << 4},
        {"ADA": 1 << 4 | 0b11, "WEA": 1, "DIA": 0, "ADB": 1 << 4 | 0b11, "WEB": 1, "DIB": 0},
        {"ADA": 1 << 4, "ADB": 1 << 4},
    ]
    found = block(tmp_path, parameters, steps)
    # The written byte, even where it gets what it had; the other one is read as it is. A digit of which some bits are
    # undefined is shown as X.
    assert found[0][1] == "xxXcd"
    assert found[1][1] == "0abcd"
    assert found[2][1] == "12345"
    assert found[3][0] == "xxxxx"
    assert found[4] == ("00007", "00007")
    # Different bytes of a word may be written at both ports, the same may not.
    assert found[6] == ("2aa55", "2aa55")
    assert found[8] == ("xxxxx", "xxxxx")


def test_block_output_register(tmp_path):
    """A cycle later; held without OCE; cleared by RST, as is the word after it."""
    parameters = {"REGMODE_B": '"OUTREG"', "INITVAL_00": FIRST_WORDS}
    steps = [
        {"ADB": 15 << 4},
        {"ADB": 0},
        {"ADB": 0, "OCEB": 0},
        {"ADB": 0},
        {"ADB": 0, "RSTB": 1},
        {"ADB": 0},
        {"ADB": 0},
    ]
    found = block(tmp_path, parameters, steps)
    assert [b for _, b in found] == ["00000", "12345", "12345", "0abcd", "00000", "00000", "0abcd"]
    assert [a for a, _ in found] == ["0abcd"] * 7


def test_block_is_off(tmp_path):
    """Without CE, and where CS is not what the block is to be selected with, nothing is read or written."""
    parameters = {"INITVAL_00": FIRST_WORDS, "CSDECODE_B": '"0b101"'}
    steps = [
        {"ADA": 15 << 4},
        {"CEA": 0, "ADB": 15 << 4},
        {"CSA": 4, "ADB": 15 << 4, "CSB": 5},
        {"CEA": 0, "ADA": 0b11, "WEA": 1, "CSB": 0},
        {"CSB": 5, "ADB": 0},
    ]
    assert block(tmp_path, parameters, steps) == [
        ("12345", "00000"),
        ("12345", "00000"),
        ("12345", "12345"),
        ("12345", "12345"),
        ("0abcd", "0abcd"),
    ]
