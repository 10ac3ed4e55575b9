"""How cycles, area and the models' own speed grow with what a network and its plan are.

Cycles are those of the cycle model, which `sim.verify` holds equal to the hardware's; LUTs those of placed designs and of the
area model. Networks are drawn at random and frames are noise: only how much happens matters here.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hw.flow.area import AREA, estimate_area
from model.encode import encode
from model.engine.engine import run_streams
from model.golden import run
from model.machine.named_plans import named_plan
from model.machine.plan import Plan
from model.machine.planner import Demand, ladder
from model.machine.schedule import Schedule, schedule
from model.machine.simulate import simulate
from model.machine.stages import stages
from model.network import Network
from model.reports.html import PLOTS
from model.studies.random_network import drawn

__all__ = ["FRAMES", "STUDIES", "Study", "areas_of_designs", "exponent", "measured", "plots", "speeds_of_models"]

FRAMES = 24
"""Frames of each point."""


@dataclass(frozen=True)
class Study:
    """Points along one quantity.

    Parameters
    ----------
    name : str
        Key of the study.
    quantity : str
        What is on the axis.
    points : Callable[[], Iterator[tuple[float | None, Network, Plan, float]]]
        Gives each point: the quantity, network, plan and share of pixels that are lit.
    law : str
        What is expected, in words.
    exponent : float | None
        Power of the quantity that cycles are expected to go with; None where they are not a power of it.
    """

    name: str
    quantity: str
    points: Callable[[], Iterator[tuple[float | None, Network, Plan, float]]]
    law: str
    exponent: float | None


def _quiet(text: str) -> Network:
    """A network of which few neurons fire, so that the layer that is studied is the busiest."""
    return drawn(text, threshold_log2=11)


def noise(network: Network, share: float, frames: int = FRAMES) -> npt.NDArray[np.uint8]:
    """Frames of which that share of pixels is lit."""
    chance = np.random.default_rng(1)
    shape = (frames, *network.input_shape)
    return np.where(chance.random(shape) < share, 255, 0).astype(np.uint8)


def _events() -> Iterator[tuple[None, Network, Plan, float]]:
    network = _quiet("28x28x1: 8C5 P2 10F")
    for share in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8):
        yield None, network, named_plan(network, "fast"), share


def _lanes() -> Iterator[tuple[float, Network, Plan, float]]:
    network = _quiet("28x28x1: 16C5p P2 8C5p P2 64F 10F")
    for _, plan in ladder(network, Demand.of(network, noise(network, 0.1))):
        yield plan.lanes, network, plan, 0.1


def _width() -> Iterator[tuple[float, Network, Plan, float]]:
    for width in (16, 32, 64, 128, 256, 512):
        network = _quiet(f"1x1x256: {width}F 10F")
        plan = named_plan(network, "fast")
        yield width, network, replace(plan, cores=(replace(plan.cores[0], channels=16), *plan.cores[1:])), 0.5


def _kernel(name: str) -> Iterator[tuple[float, Network, Plan, float]]:
    for kernel in (3, 5, 7, 9, 11):
        network = _quiet(f"28x28x1: 8C{kernel}p 10F")
        fast, minimal = named_plan(network, "fast"), named_plan(network, "minimal")
        # The layer after it is never the slowest.
        yield kernel, network, fast if name == "fast" else replace(fast, cores=(minimal.cores[0], fast.cores[1])), 0.2


def _size() -> Iterator[tuple[float, Network, Plan, float]]:
    for size in (28, 48, 64, 96, 128):
        network = _quiet(f"{size}x{size}x1: 8C5 P4 10F")
        yield size, network, named_plan(network, "fast"), 0.1


def _depth() -> Iterator[tuple[float, Network, Plan, float]]:
    for depth in (1, 2, 3, 4, 6, 8):
        network = _quiet(f"16x16x1: {'4C3p ' * depth}10F")
        yield depth, network, named_plan(network, "fast"), 0.2


STUDIES = (
    Study("events", "input events per frame", _events, "cycles go with events: one event per cycle, one cycle per event", 1.0),
    Study("lanes", "lanes", _lanes, "cycles go with 1 / lanes, until the slowest core takes one event per cycle", None),
    Study("width", "neurons of a linear layer, 16 lanes", _width, "cycles go with the width", 1.0),
    Study("kernel", "kernel size, one lane", lambda: _kernel("minimal"), "cycles go with the window: size squared", 2.0),
    Study("window", "kernel size, a lane each", lambda: _kernel("fast"), "cycles do not depend on the window", 0.0),
    Study("size", "image height and width, pixels", _size, "cycles go with the pixels: size squared", 2.0),
    Study("depth", "convolutions in a row", _depth, "each core adds latency; the slowest one sets the pace", None),
)


def measured(study: Study) -> list[dict[str, Any]]:
    """Cycles of each point, beside those that the busiest part of all cores would take alone."""
    rows = []
    for quantity, network, plan, share in study.points():
        images = noise(network, share)
        cycles = simulate(network, plan, images)
        streams = run_streams(network, images)
        busiest = max(_busy(schedule(network, plan, stage, streams)) for stage in stages(network)) / len(images)
        rows.append(
            {
                "quantity": len(streams["input"].address) / len(images) if quantity is None else quantity,
                "lanes": plan.lanes,
                "cycles_per_frame": round(cycles.cycles_per_frame, 1),
                "latency_cycles": round(float(cycles.latency.mean()), 1),
                "busiest_part_cycles": round(busiest, 1),
            }
        )
    return rows


def _busy(tokens: Schedule) -> int:
    """Cycles that the busiest part of a core takes, if nothing holds it up: walker, selector of groups, or serializer."""
    return int(max(np.maximum(np.abs(tokens.steps), 1).sum(), tokens.fired_groups.sum(), tokens.tokens.sum()))


def exponent(rows: list[dict[str, Any]]) -> float:
    """Power of the quantity that cycles go with: the slope in logarithms."""
    x, y = (np.log([row[name] for row in rows]) for name in ("quantity", "cycles_per_frame"))
    return float(np.polyfit(x, y, 1)[0])


def areas_of_designs() -> dict[str, list[dict[str, Any]]]:
    """LUTs against lanes: of the designs that were placed, and of one network's plans by the area model."""
    network = _quiet("28x28x1: 16C5p P2 8C5p P2 64F 10F")
    plans = [plan for _, plan in ladder(network, Demand.of(network, noise(network, 0.1)))]
    return {
        "placed": [{"lanes": found["lanes"], "luts": found["luts"]} for found in json.loads(AREA.read_text())["designs"]],
        "estimated": [{"lanes": plan.lanes, "luts": estimate_area(network, plan).luts} for plan in plans],
    }


def speeds_of_models() -> list[dict[str, Any]]:
    """Frames per second of the models, on this machine, against the accumulations of a frame."""
    rows = []
    for text in ("8x8x1: 4C3 P2 10F", "14x14x1: 8C3 P2 10F", "28x28x1: 8C5 P2 10F", "28x28x1: 16C5p P2 8C5p P2 64F 10F"):
        network = drawn(text)
        plan = named_plan(network, "fast")
        images = noise(network, 0.15, 400)
        trace = run(network, encode(network, images[0]))
        row: dict[str, Any] = {"network": text, "accumulations": sum(layer.operations for layer in trace.layers.values())}
        for name, work, count in (
            ("readable", lambda n, network=network, images=images: [run(network, encode(network, i)) for i in images[:n]], 3),
            ("engine", lambda n, network=network, images=images: run_streams(network, images[:n]), 400),
            ("cycles", lambda n, network=network, images=images, plan=plan: simulate(network, plan, images[:n]), 400),
        ):
            work(count)
            started = time.perf_counter()
            work(count)
            row[name] = round(count / (time.perf_counter() - started), 1)
        rows.append(row)
    return rows


_BLUE, _ORANGE, _GREY = "#2463a8", "#c8641b", "#8a93a0"


def plots(found: dict[str, Any]) -> Figure:
    """All studies in one figure."""
    with mpl.rc_context(PLOTS):
        figure = Figure(figsize=(12, 8.6))
        panels = figure.subplots(3, 3).ravel()
        for axes, study in zip(panels, STUDIES, strict=False):
            rows = found["studies"][study.name]["points"]
            x = [row["quantity"] for row in rows]
            axes.plot(x, [row["cycles_per_frame"] for row in rows], "o-", color=_BLUE, label="cycles per frame")
            axes.plot(x, [row["busiest_part_cycles"] for row in rows], "--", color=_GREY, label="busiest part alone")
            if study.name == "depth":
                axes.plot(x, [row["latency_cycles"] for row in rows], "s-", color=_ORANGE, label="latency")
            _dress(axes, study.quantity, "cycles", logarithmic=study.name not in ("window", "depth"))
        area, speed = panels[len(STUDIES) :]
        for name, mark, color in (("placed", "o", _BLUE), ("estimated", "--", _GREY)):
            rows = found["areas"][name]
            area.plot([row["lanes"] for row in rows], [row["luts"] for row in rows], mark, color=color, label=name)
        _dress(area, "lanes", "LUTs")
        for name, color in (("engine", _BLUE), ("cycles", _ORANGE), ("readable", _GREY)):
            rows = sorted(found["speeds"], key=lambda row: row["accumulations"])
            label = {"engine": "compiled golden model", "cycles": "cycle model", "readable": "readable golden model"}[name]
            speed.plot([row["accumulations"] for row in rows], [row[name] for row in rows], "o-", color=color, label=label)
        _dress(speed, "accumulations per frame", "frames per second")
        figure.tight_layout()
    return figure


def _dress(axes: Axes, x: str, y: str, *, logarithmic: bool = True) -> None:
    if logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,g}"))
            axis.set_minor_formatter(mpl.ticker.NullFormatter())
    else:
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(fontsize=8, frameon=False)
