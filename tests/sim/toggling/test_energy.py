"""What a toggle costs, from currents that were measured and toggles that are counted."""

import json
import os
from pathlib import Path

import pytest

from hw.flow.families.ice40 import ICE40
from hw.flow.tools import run_tool
from sim.cosimulation import CACHE
from sim.toggling import energy as of
from sim.toggling.energy import AT_REST_UW, COEFFICIENTS, energy
from tests.sim.toggling.harness import by_kind, simulated

# WebAssembly builds of Yosys see folders below the one that they run in.
SOURCE = os.path.relpath(of.__file__.replace("energy.py", "measured.v"))


def measured(top, cycles, folder):
    """Cells of a circuit of which the current was measured, its toggles, the sinks that they reach, and those of flip-flops."""
    netlist = Path(os.path.relpath(CACHE)) / f"measured-{top}.json"
    script = f"read_verilog {SOURCE}; synth_ice40 -device u -top {top} -json {netlist}"
    CACHE.mkdir(parents=True, exist_ok=True)
    run_tool("yosys", ["-q", "-p", script], log=folder / "yosys.log")
    module = json.loads(netlist.read_text())["modules"][top]
    found, (total,) = simulated(
        module, ICE40, [*[{}] * 2, *[{"run": 1}] * (cycles - 1), {"run": 1, "mark": 1}], folder / top
    )
    counts = by_kind(found, total)
    toggles, reached = (sum(numbers) for numbers in zip(*counts.values(), strict=True))
    return found, toggles, reached, counts["flip-flop"][0]


def changed(old, new):
    return (old ^ new).bit_count()


def test_the_toggles_of_the_circuits_that_were_measured_are_those_counted(tmp_path):
    """The product takes 180 logic cells beside the counter of 24 bits, by the source."""
    found, toggles, reached, flip_flops = measured("product", 256, tmp_path)
    assert (toggles / 256, reached / 256) == (of.PRODUCT_TOGGLES, of.PRODUCT_REACHED)
    assert (found.cells["SB_LUT4"], found.flip_flops) == (179, 16)
    # Of registers the toggles follow from what the circuit says; two cycles had passed before.
    steps = [(value, value + 1) for value in range(1, 257)]
    assert flip_flops == sum(changed(by * old % 256, by * new % 256) for old, new in steps for by in (3, 5))
    _, toggles, _, flip_flops = measured("count", 4096, tmp_path)
    assert toggles / 4096 == of.COUNT_TOGGLES
    assert flip_flops == sum(changed(value, value + 1) for value in range(1, 4097))


def test_coefficients():
    """Each by hand from the rows of the source."""
    pj = COEFFICIENTS["ice40"]
    assert pj.flip_flop == pytest.approx((641.3 - 616.65) * 1.219 / 12 / 168)
    product = (996 - 645) * 1.219 / 12 - 16 * pj.flip_flop
    assert pj.toggle == pytest.approx(product / 70.1797, rel=1e-5)
    assert pj.reached == pytest.approx(product / 227.2656, rel=1e-5)
    assert pj.clock == pytest.approx((613.5 - 92.1) * 1.219 / 12 - 28 * pj.flip_flop - 4.99902 * pj.toggle, rel=1e-5)
    assert [round(value, 4) for value in (pj.flip_flop, pj.toggle, pj.reached, pj.clock)] == [0.0149, 0.5047, 0.1558, 50.0254]
    assert pj.accesses == {
        "block RAM, reads": pytest.approx(0.625), "block RAM, writes": pytest.approx(0.625),
        "large RAM, reads": pytest.approx(5.0), "large RAM, writes": pytest.approx(5.0),
    }  # fmt: skip
    assert round(AT_REST_UW) == 104


def test_the_oscillators_rows_say_the_same_of_the_clock():
    """What a megahertz more takes, with the oscillator at 6 and at 48 MHz and a counter of 24 bits: within a few percent."""
    pj = COEFFICIENTS["ice40"]
    by_oscillator = (2184 - 388.4) / 42 * 1.219 - 24 * pj.flip_flop - of.COUNT_TOGGLES * pj.toggle
    assert by_oscillator == pytest.approx(pj.clock, rel=0.03)


def test_energy():
    pj = COEFFICIENTS["ice40"]
    found = energy(
        "ice40", toggles=1000, reached=3000, accesses={"block RAM, reads": 20, "large RAM, writes": 3}, flip_flops=50, cycles=10
    )
    assert found.nets == pytest.approx(pj.toggle)
    assert found.nets_by_sinks == pytest.approx(3 * pj.reached)
    assert found.accesses == pytest.approx((20 * 0.625 + 3 * 5) / 1e3)
    assert found.flip_flops == pytest.approx(0.5 * pj.flip_flop)
    assert found.clock == pytest.approx(pj.clock / 100)
    assert found.total == pytest.approx(found.nets + found.accesses + found.flip_flops + found.clock)
    assert energy("ecp5", toggles=1, reached=1, accesses={}, flip_flops=1, cycles=1) is None
