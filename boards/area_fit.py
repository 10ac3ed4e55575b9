"""Place designs of many networks and plans, and fit what LUTs and flip-flops go with.

Each design is a whole machine with its host link, synthesized for the largest ECP5 and, but for some, placed and routed. Its
cells are counted core by core; the costs are the nonnegative ones that give the least squared relative error over all cores. The
errors written down are of totals after placement, and each is of a design that was left out of the fit that predicted it.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

import hw
from boards.definitions import board_named
from boards.top import BoardTop
from hw.flow.area import LUT_RAM_CELLS, features, memories, summed
from hw.flow.synthesis import place_and_route, synthesize
from hw.flow.tools import tool_version
from hw.flow.verilog import to_rtlil
from model.machine.named_plans import choices, named_plan
from model.machine.plan import Plan
from model.network import Network, Neurons
from model.studies.random_network import drawn
from model.support.cache import kept, source_hash
from sim.cosimulation import CACHE

__all__ = ["CACHE", "DESIGNS", "Design", "design_of", "fit", "fitted", "measure"]

ZOO = Path(__file__).parent.parent / "model" / "zoo"
BOARD, CLOCK_MHZ = "ulx3s-85f", 60.0

PLACED = 1.083
"""LUTs after placement, LUT RAMs left out, for one after synthesis: the median of the designs that are placed."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """A network and a plan.

    Parameters
    ----------
    network : str
        Name of a bundled one, or a description for `model.studies.random_network.drawn`.
    bits : tuple[int, int, int]
        Of weights, potentials and counts of such a network.
    speed : float | str
        Share of the parallelism that each layer can have: 0 is one lane, 1 an event per cycle; or the name of a plan.
    firing : str
        ``"immediate"`` or ``"deferred"``.
    burst : int
        Of all layers; where it is not 1, thresholds are so low that an update fires several spikes.
    rest : bool
        Whether frames start from the state at rest; if so, thresholds are so low that its counts are not 0.
    placed : bool
        Whether it is placed and routed; if not, it is synthesized, and its LUTs are those times `PLACED`.
    """

    network: str
    bits: tuple[int, int, int] = (8, 14, 8)
    speed: float | str = 0.0
    firing: str = "immediate"
    burst: int = 1
    rest: bool = False
    placed: bool = True

    @property
    def name(self) -> str:
        """For tables."""
        fires = "" if self.firing == "immediate" else f", {self.firing}"
        bursts = "" if self.burst == 1 else f", burst {self.burst}"
        return f"{self.network}, {'/'.join(map(str, self.bits))} bits, {self.speed}{fires}{bursts}{', rest' if self.rest else ''}"

    def build(self) -> tuple[Network, Plan]:
        """The network, its weights drawn at random where it is none of the bundled, and the plan."""
        path = ZOO / f"{self.network}.npz"
        if path.exists():
            network = Network.load(path)
        else:
            low = self.rest or self.burst != 1
            network = drawn(self.network, self.bits, threshold_log2=self.bits[0] - 3 if low else None)
        layers = tuple(replace(layer, burst=self.burst) if isinstance(layer, Neurons) else layer for layer in network.layers)
        network = replace(network, layers=layers, firing=self.firing, rest=self.rest)
        if isinstance(self.speed, str):
            return network, named_plan(network, self.speed)
        minimal = named_plan(network, "minimal")
        cores = []
        for core in minimal.cores:
            options = choices(network, core.layer)
            cores.append(options[round(self.speed * (len(options) - 1))])
        return network, Plan(name=f"{self.speed:g}", cores=tuple(cores))


DESIGNS = (
    Design(network="8x8x1: 4C3 P2 10F", bits=(4, 10, 4), speed=0.0),
    Design(network="8x8x1: 4C3 P2 10F", bits=(8, 14, 8), speed=1.0),
    Design(network="16x16x1: 8C5 P2 32F 10F", bits=(8, 14, 8), speed=0.0),
    Design(network="16x16x1: 8C5 P2 32F 10F", bits=(6, 12, 6), speed=0.5),
    Design(network="12x12x3: 6C3 6C3p 4F", bits=(5, 12, 5), speed=0.6),
    Design(network="1x1x64: 48F 10F", bits=(8, 16, 8), speed=0.5),
    Design(network="1x1x200: 32F 32F 5F", bits=(4, 11, 6), speed=1.0),
    Design(network="14x14x2: 8C3 P2 8C3p 10F", bits=(8, 13, 5), speed=0.4),
    Design(network="14x14x2: 12C3p P2 6F", bits=(6, 14, 7), speed=0.8),
    Design(network="20x20x1: 6C5 P2 12C3 P2 24F 10F", bits=(8, 15, 8), speed=0.2),
    Design(network="20x20x1: 6C5 P2 12C3 P2 24F 10F", bits=(8, 15, 8), speed=0.55),
    Design(network="32x32x1: 8C3 P2 8C3 P2 8C3 10F", bits=(7, 13, 6), speed=0.3),
    Design(network="24x24x3: 8C3p P3 16F 3F", bits=(8, 18, 9), speed=0.45),
    Design(network="14x14x2: 8C3 P2 8C3p 10F", bits=(8, 13, 5), speed=0.4, firing="deferred", rest=True, placed=False),
    Design(network="1x1x64: 48F 10F", bits=(8, 16, 8), speed=0.5, firing="deferred", placed=False),
    Design(network="8x8x1: 4C3 P2 10F", bits=(4, 10, 4), speed=1.0, firing="deferred", placed=False),
    Design(network="14x14x2: 8C3 P2 8C3p 10F", bits=(8, 13, 5), speed=0.4, burst=4, placed=False),
    Design(network="8x8x1: 4C3 P2 10F", bits=(4, 10, 4), burst=4, placed=False),
)
"""The designs that are measured."""


def measure(design: Design) -> dict[str, Any]:
    """Synthesize one design, place and route it where it is one of those; what it took."""
    network, plan = design.build()
    board = board_named(BOARD)
    text = to_rtlil(BoardTop(board=board, network=network, plan=plan, frequency_hz=CLOCK_MHZ * 1e6), "top")
    passes = source_hash(Path(hw.__path__[0]) / "flow")
    tools = [tool_version(name) for name in ("yosys", "nextpnr-ecp5")]
    stem = CACHE / f"area-{hashlib.sha256(repr((text, passes, tools, BOARD, design.placed)).encode()).hexdigest()[:16]}"

    def make(part: Path) -> None:
        source, netlist = stem.with_suffix(".il"), stem.with_suffix(".netlist")
        source.write_text(text)
        synthesized = synthesize(source, top="top", netlist=netlist, log=stem.with_suffix(".synthesis"))
        cores = _by_core(netlist)
        if design.placed:
            placed = place_and_route(
                netlist,
                family=board.of_family,
                part=board.target,
                constraints=board.constraints(),
                frequency_mhz=CLOCK_MHZ,
                seed=1,
                routed=stem.with_suffix(".config"),
                log=stem.with_suffix(".routing"),
                cells=synthesized,
            )
            luts, flip_flops, fmax_mhz = placed.slices_lut, placed.slices_ff, placed.fmax_mhz
        else:
            luts, flip_flops = (sum(cells[kind] for cells in cores.values()) for kind in ("luts", "flip_flops"))
            luts, fmax_mhz = round(PLACED * luts) + LUT_RAM_CELLS * synthesized.lut_ram, None
        part.write_text(
            json.dumps(
                {
                    "luts": luts,
                    "flip_flops": flip_flops,
                    "lut_rams": synthesized.lut_ram,
                    "ram_blocks": synthesized.ram_blocks,
                    "fmax_mhz": fmax_mhz,
                    "cores": {name: dict(cells) for name, cells in cores.items()},
                }
            )
        )

    found: dict[str, Any] = json.loads(kept(stem.with_suffix(".json"), make).read_text())
    return {"design": asdict(design), "plan": [asdict(core) for core in plan.cores], "lanes": plan.lanes, **found}


def _by_core(netlist: Path) -> dict[str, Counter[str]]:
    """Cells of a netlist by the core that they belong to; ``"system"`` is the rest."""
    found: dict[str, Counter[str]] = {}
    for name, cell in json.loads(netlist.read_text())["modules"]["top"]["cells"].items():
        match = re.match(r"system\.machine\.core_(\w+?)\.", name)
        of = found.setdefault(match[1] if match else "system", Counter())
        if cell["type"] in ("LUT4", "CCU2C"):
            of["luts"] += 1 if cell["type"] == "LUT4" else 2
        elif cell["type"] == "TRELLIS_FF":
            of["flip_flops"] += 1
    return found


@dataclass(frozen=True)
class _Row:
    """One core of a design: its features, and its share of what the design took once it was placed."""

    design: int
    features: Counter[str]
    luts: float
    flip_flops: float


def _rows(measured: list[dict[str, Any]]) -> Iterator[_Row]:
    for number, found in enumerate(measured):
        network, plan = design_of(found).build()
        amounts = features(network, plan)
        # Placement adds cells, to feed carry chains most of all: shared out in proportion.
        totals = {kind: sum(cells.get(kind, 0) for cells in found["cores"].values()) for kind in ("luts", "flip_flops")}
        placed = {"luts": found["luts"] - LUT_RAM_CELLS * found["lut_rams"], "flip_flops": found["flip_flops"]}
        for name, of in amounts.items():
            cells = found["cores"].get(name, {})
            yield _Row(number, of, *(cells.get(kind, 0) * placed[kind] / totals[kind] for kind in ("luts", "flip_flops")))


def design_of(found: dict[str, Any]) -> Design:
    return Design(**{**found["design"], "bits": tuple(found["design"]["bits"])})


def fit(rows: list[_Row], kind: str) -> dict[str, float]:
    """Costs of all features, of least squared relative error over ``rows``, none negative."""
    names = sorted({name for row in rows for name in row.features})
    # A core so small that it is all constant weighs no more than one of some size.
    scale = np.array([1 / max(getattr(row, kind), 150.0) for row in rows])
    matrix = np.array([[row.features.get(name, 0) for name in names] for row in rows]) * scale[:, None]
    wanted = np.array([getattr(row, kind) for row in rows]) * scale
    size = np.maximum(np.abs(matrix).max(axis=0), 1e-12)
    found, _ = nnls(matrix / size, wanted)
    return {name: round(float(cost), 4) for name, cost in zip(names, found / size, strict=True) if cost > 0}


def _predicted(rows: list[_Row], costs: dict[str, float], design: int) -> float:
    return sum(summed(row.features, costs) for row in rows if row.design == design)


def fitted(measured: list[dict[str, Any]]) -> dict[str, Any]:
    rows = list(_rows(measured))
    costs = {kind: fit(rows, kind) for kind in ("luts", "flip_flops")}
    for number, found in enumerate(measured):
        others = [row for row in rows if row.design != number]
        network, plan = design_of(found).build()
        built = memories(network, plan)
        lut_rams = sum(memory.lut_rams for memory in built)
        found["predicted"] = {
            "luts": round(_predicted(rows, fit(others, "luts"), number) + LUT_RAM_CELLS * lut_rams),
            "flip_flops": round(_predicted(rows, fit(others, "flip_flops"), number)),
            "lut_rams": lut_rams,
            "ram_blocks": sum(memory.blocks for memory in built),
        }
    errors = {
        kind: [abs(found["predicted"][kind] / found[kind] - 1) for found in measured] for kind in ("luts", "flip_flops")
    }
    speeds = [found["fmax_mhz"] for found in measured if design_of(found).placed]
    return {
        "board": BOARD,
        "tools": [tool_version("yosys"), tool_version("nextpnr-ecp5")],
        "costs": costs,
        "median_error": {kind: round(float(np.median(found)), 4) for kind, found in errors.items()},
        "greatest_error": {kind: round(max(found), 4) for kind, found in errors.items()},
        "memories_exact": all(
            found["predicted"][kind] == found[kind] for found in measured for kind in ("lut_rams", "ram_blocks")
        ),
        "fmax_mhz": {"slowest": min(speeds), "fastest": max(speeds)},
        "designs": measured,
    }
