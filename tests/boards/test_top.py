"""The top of a board: LEDs, reset, and down to a bitstream for each family."""

import tempfile
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator
from rich.console import Console

from boards.bitstream import Options, build
from boards.build_table import COLUMNS, BuildRow
from boards.bundled import BUNDLED
from boards.definitions import BOARDS, board_named
from boards.top import BoardTop, bit_cycles
from hw.flow.routing import RoutingError
from hw.flow.synthesis import place_and_route
from model.machine.named_plans import named_plan
from model.network import Network, Shape
from model.support.errors import DoesNotFitError
from sim.cosimulation import CACHE
from sim.generators.networks import random_linear, random_network


def tiny_network():
    """One core of one lane: what the smallest device has room for."""
    layer = random_linear(1, inputs=16, outputs=4, activation="identity", potential_bits=8, count_bits=4)
    return Network(name="tiny", input_shape=Shape(4, 4, 1), layers=(layer,))


def options_for(tmp_path, network, board, **more):
    network.save(tmp_path / "net.npz")
    images = np.random.default_rng(0).integers(0, 256, (4, *network.input_shape), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.zeros(4, int))
    data = {"net": tmp_path / "net.npz", "dataset": str(tmp_path / "data.npz"), "out": tmp_path / "out"}
    return Options(board=board, plan="minimal", **data, **more)


@pytest.mark.parametrize("leds_low", [False, True])
def test_leds_show_the_answer(leds_low):
    # The board's clock as it is, so that the simulator needs no model of a PLL.
    board = replace(board_named("icebreaker"), leds_low=leds_low, led_pins=tuple("abcde"))
    network = tiny_network()
    top = BoardTop(board=board, network=network, plan=named_plan(network, "minimal"), frequency_hz=12e6)
    simulator = Simulator(top)
    seen = []

    async def testbench(ctx):
        for _ in range(4):
            await ctx.delay(1e-6)
            seen.append(ctx.get(top.led))

    simulator.add_testbench(testbench)
    simulator.run()
    assert seen == [31 if leds_low else 0] * 4


def test_the_machine_waits_until_memories_can_be_read():
    network = tiny_network()
    top = BoardTop(board=board_named("icebreaker"), network=network, plan=named_plan(network, "minimal"), frequency_hz=12e6)
    simulator = Simulator(top)
    cycles = []

    async def clock(ctx):
        for n in range(600):
            ctx.set(top.clk, 1)
            await ctx.delay(1e-7)
            ctx.set(top.clk, 0)
            await ctx.delay(1e-7)
            if not ctx.get(top.reset):
                cycles.append(n)

    simulator.add_testbench(clock)
    simulator.run()
    assert 20e-6 * 12e6 <= cycles[0] <= 20e-6 * 12e6 + 8
    assert cycles == list(range(cycles[0], 600))


# Each family's place and route compiles itself on a fresh machine, which takes minutes: in `make test` one of them does.
OTHERS = [pytest.param(board, marks=pytest.mark.full) for board in ("icebreaker", "tang-nano-9k")]


@pytest.mark.parametrize("board", ["ulx3s-25f", *OTHERS])
def test_a_tiny_network_down_to_the_bitstream(tmp_path, board):
    report = build(options_for(tmp_path, tiny_network(), board), Console(quiet=True))
    assert (report["mismatches"], report["cycle_mismatches"], report["dsp"]) == (0, 0, 0)
    assert report["fmax_mhz"] >= report["clock_mhz"]
    assert BuildRow.of(report).cells[COLUMNS.index("board")] == f"`{board}`"
    suffix = BOARDS[board].of_family.BITSTREAM
    assert (tmp_path / "out" / f"tiny-{board}{suffix}").stat().st_size > 10_000


@pytest.fixture
def own_cache():
    """A cache that holds nothing before and is gone afterwards."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        yield Path(folder)


@pytest.mark.full
def test_a_seed_that_does_not_route_is_told_and_the_others_are_taken(tmp_path, monkeypatch, own_cache):
    asked = []

    def place(netlist, *, seed, **options):
        asked.append(seed)
        if seed != 2:
            return place_and_route(netlist, seed=seed, **options)
        raise RoutingError("the router gets nowhere: 3 wires are overused")

    monkeypatch.setattr("boards.bitstream.place_and_route", place)
    # WebAssembly builds of tools do not see /tmp.
    monkeypatch.setattr("boards.bitstream.CACHE", own_cache)
    options = replace(options_for(tmp_path, tiny_network(), "ulx3s-25f"), seeds=3)
    report = build(options, Console(quiet=True))
    clocks = report["fmax_mhz_by_seed"]
    assert list(clocks) == ["1", "2", "3"] and clocks["2"] == 0
    assert report["fmax_mhz"] == max(clocks.values()) and report["fmax_mhz_median"] == sorted(clocks.values())[1]
    assert "not routed" in BuildRow.of(report).clocks
    assert "not routed with seed 2" in (tmp_path / "out" / "report.md").read_text()
    # It is not tried again; and alone, it is what is wrong.
    assert build(options, Console(quiet=True)) == report
    with pytest.raises(RoutingError, match=r"^the router gets nowhere: 3 wires are overused$"):
        build(replace(options, seed=2, seeds=1), Console(quiet=True))
    assert sorted(asked) == [1, 2, 3]


@pytest.mark.parametrize(
    ("board", "message"),
    [
        ("icebreaker", r"^does not fit iCEBreaker: memories hold 1,236 kbit, its 30 blocks 120 kbit$"),
        ("tang-primer-20k", r"^does not fit Tang Primer 20K on its dock: memories hold 1,236 kbit, its 46 blocks 828 kbit$"),
        ("orangecrab-25f", r"^does not fit OrangeCrab 25F, r0\.2: short of 40 block RAMs \(needs 96, has 56\)$"),
    ],
)
def test_too_small_memories_are_said_before_anything_runs(tmp_path, monkeypatch, board, message):
    monkeypatch.setattr("boards.bitstream.run_fast", None)
    with pytest.raises(DoesNotFitError, match=message):
        build(Options(net=BUNDLED.with_name("mnist-paper.npz"), board=board, plan="minimal", out=tmp_path), Console(quiet=True))


@pytest.mark.parametrize(("asked", "told"), [(17.123, True), (16, False)])
def test_another_clock_than_was_asked_for_is_told(tmp_path, asked, told):
    console = Console(file=StringIO(), width=200)
    net = BUNDLED.with_name("mnist-paper.npz")
    with pytest.raises(DoesNotFitError):
        build(Options(net=net, board="orangecrab-25f", plan="minimal", out=tmp_path, frequency_mhz=asked), console)
    line = "a clock of 16 MHz: of those that the PLL makes, the nearest that is not above 17.123"
    assert (line in console.file.getvalue()) == told


@pytest.mark.parametrize(
    ("clock_hz", "baud", "cycles"),
    [(24e6, 1_000_000, 24), (24e6, 3_000_000, 8), (60e6, 115_200, 521), (12e6, 3_000_000, 4)],
)
def test_cycles_of_a_bit(clock_hz, baud, cycles):
    assert bit_cycles(clock_hz, baud) == cycles


def test_a_baud_that_the_clock_does_not_give_is_said_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("boards.bitstream.load_plan", None)
    message = r"^baud must be within 2% of 24 MHz by a whole number from 4 on \(as 6,000,000\), not 12000000$"
    with pytest.raises(ValueError, match=message):
        build(Options(board="icebreaker", baud=12_000_000, out=tmp_path), Console(quiet=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_what_a_small_device_has_no_room_for_is_said_in_one_line(tmp_path):
    with pytest.raises(DoesNotFitError, match=r"^does not fit iCEBreaker: short of \d+ LUTs \(needs \d+, has 5280\)"):
        build(options_for(tmp_path, random_network(1), "icebreaker"), Console(quiet=True))
    assert not list((tmp_path / "out").glob("*.bin"))
