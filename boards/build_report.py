"""What a build found: its JSON form, and the page that a person reads."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from boards.definitions import Board
from hw.flow.synthesis import Placed, Synthesized
from model.conversion.convert import Conversion
from model.golden import Trace
from model.machine.plan import Plan
from model.network import Network, Neurons
from model.reports.conversion import conversion_json
from sim.cosimulation import VerifyResult
from sim.coverage import Coverage

__all__ = ["build_report", "markdown"]

STATE_OF_PROOF = (
    "RTL equal to the golden model in every spike; placed and routed; "
    "bitstream unpacks to the routed design; not run on the board"
)


def build_report(
    *,
    network: Network,
    conversion: Conversion | None,
    plan: Plan,
    board: Board,
    tools: dict[str, str],
    dataset: str,
    traces: Sequence[Trace],
    frames_right: int,
    verified: VerifyResult,
    synthesized: Synthesized,
    placed: dict[int, Placed],
    not_routed: Sequence[int],
    best: int,
    frequency_hz: float,
    bitstream: Path,
    weights_image: Path | None,
) -> dict[str, Any]:
    """The report of a build, ready for JSON; units are in the names.

    Parameters
    ----------
    network, plan, board
        What was built.
    conversion : Conversion or None
        What the network's conversion found, where it was converted for this build.
    tools : dict[str, str]
        Versions, by name.
    dataset : str
        Where the verified frames come from.
    traces : Sequence[Trace]
        The golden model's, of those frames.
    frames_right : int
        Frames whose answer is their label.
    verified, synthesized
        What co-simulation and synthesis found.
    placed : dict[int, Placed]
        What place and route found, by seed.
    not_routed : Sequence[int]
        Seeds with which it does not route. Their clock is 0 MHz.
    best : int
        The seed that was taken.
    frequency_hz : float
        The machine's clock.
    bitstream, weights_image : Path
        What was written.
    """
    spikes = sum(len(la.spikes) for t in traces for la in t.layers.values() if isinstance(la.layer, Neurons))
    taken = placed[best]
    clocks = {seed: placed[seed].fmax_mhz if seed in placed else 0.0 for seed in sorted([*placed, *not_routed])}
    return {
        "network": network.name,
        "network_hash": network.content_hash,
        "origin": network.origin,
        "conversion": conversion_json(conversion) if conversion else None,
        "board": board.name,
        "family": board.of_family.NAME,
        "state_of_proof": STATE_OF_PROOF,
        "plan": plan.name,
        "lanes": plan.lanes,
        "tools": tools,
        "seed": best,
        "fmax_mhz_by_seed": {str(seed): mhz for seed, mhz in clocks.items()},
        "fmax_mhz_median": round(median(clocks.values()), 2),
        "dataset": dataset,
        "frames_verified": verified.frames,
        "frames_right": frames_right,
        "spikes_compared": verified.spikes_compared,
        "events_compared": verified.events_compared,
        "mismatches": verified.mismatches,
        "cycle_mismatches": verified.cycle_mismatches,
        "coverage": asdict(verified.coverage),
        "spikes_per_neuron": round(spikes / network.neurons / len(traces), 4),
        "accumulations_per_frame": round(sum(la.operations for t in traces for la in t.layers.values()) / len(traces)),
        "cycles_per_frame_mean": verified.cycles_per_frame_mean,
        "latency_cycles_mean": verified.latency_cycles_mean,
        "fmax_mhz": taken.fmax_mhz,
        "clock_mhz": frequency_hz / 1e6,
        "frames_per_second": round(frequency_hz / verified.cycles_per_frame_mean),
        "microseconds_per_frame": round(verified.cycles_per_frame_mean / frequency_hz * 1e6, 2),
        "lut": taken.slices_lut,
        "ff": taken.slices_ff,
        "lut_ram": synthesized.lut_ram,
        "ram_blocks": taken.ram_blocks,
        "ram_output_registers": synthesized.output_registers,
        "dsp": taken.dsp,
        "utilization": taken.utilization,
        "critical_path": taken.critical_path,
        "bitstream": str(bitstream),
        "weights_image": str(weights_image) if weights_image else None,
        "layers": _layers(network, plan, traces),
    }


def _layers(network: Network, plan: Plan, traces: Sequence[Trace]) -> list[dict[str, Any]]:
    found = []
    for layer, _, shape in network.walk():
        neurons = layer if isinstance(layer, Neurons) else None
        of_layer = [trace.layers[layer.name] for trace in traces]
        found.append(
            {
                "layer": layer.name,
                "kind": layer.KIND,
                "shape": list(shape),
                "lanes": plan.core(layer.name).lanes if neurons else 0,
                "weights": int(neurons.weights.size) if neurons else 0,
                "weight_bits": neurons.weight_bits if neurons else None,
                "potential_bits": neurons.potential_bits if neurons else None,
                "count_bits": neurons.count_bits if neurons else None,
                "events_per_frame": round(float(np.mean([len(la.events) for la in of_layer])), 1),
                "spikes_per_frame": round(float(np.mean([len(la.spikes) for la in of_layer])), 1),
                "accumulations_per_frame": round(float(np.mean([la.operations for la in of_layer]))),
            }
        )
    return found


def _by_seed(report: dict[str, Any]) -> str:
    """What each seed of placement gave, where there were several."""
    found = report["fmax_mhz_by_seed"]
    if len(found) == 1:
        return ""
    each = ", ".join(f"{fmax or 'not routed'} with seed {seed}" for seed, fmax in found.items())
    return f"; median {report['fmax_mhz_median']} MHz: {each}"


def _as_text(text: str) -> str:
    """A line from a file or a command line, which Markdown shows as it is: no HTML, no link, no column of a table."""
    return re.sub(r"([\\`*<>\[\]|&])", r"\\\1", text)


def markdown(report: dict[str, Any]) -> str:
    """The page of a report, in Markdown."""
    conversion = report["conversion"]
    rows = [
        ("board", report["board"]),
        ("state of proof", report["state_of_proof"]),
        *([("converted", _as_text(conversion["summary"]))] if conversion else []),
        *([("**warning**", _as_text(warning)) for warning in conversion["warnings"]] if conversion else []),
        ("plan", f"{report['plan']}, {report['lanes']} lanes"),
        ("frames verified", f"{report['frames_verified']} of {_as_text(report['dataset'])}, {report['frames_right']} right"),
        ("spikes compared", f"{report['spikes_compared']:,}, {report['mismatches']} mismatches"),
        ("among what was compared", Coverage.of(report["coverage"]).summary()),
        ("cycles per frame", f"{report['cycles_per_frame_mean']:,} (latency {report['latency_cycles_mean']:,})"),
        ("clock", f"{report['clock_mhz']:g} MHz (up to {report['fmax_mhz']} MHz after routing){_by_seed(report)}"),
        (
            "frames per second",
            f"{report['frames_per_second']:,} ({report['microseconds_per_frame']} microseconds per frame)",
        ),
        (
            "LUT / FF / block RAM / DSP",
            f"{report['lut']:,} / {report['ff']:,} / {report['ram_blocks']} / {report['dsp']}",
        ),
        ("spikes per neuron per frame", report["spikes_per_neuron"]),
        ("accumulations per frame", f"{report['accumulations_per_frame']:,}"),
        ("tools", "; ".join(report["tools"].values()) + f"; seed {report['seed']}"),
        ("bitstream", _as_text(report["bitstream"])),
        *([("weights, for its flash", _as_text(report["weights_image"]))] if report["weights_image"] else []),
    ]
    lines = [f"# {report['network']}", "", _as_text(report["origin"]), "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows]
    columns = (
        "layer",
        "kind",
        "shape",
        "lanes",
        "weights",
        "weight_bits",
        "potential_bits",
        "count_bits",
        "events_per_frame",
        "spikes_per_frame",
        "accumulations_per_frame",
    )
    lines += ["", "| " + " | ".join(c.replace("_", " ") for c in columns) + " |", "|" + "---|" * len(columns)]
    lines += [
        "| "
        + " | ".join(
            "x".join(map(str, layer[c])) if c == "shape" else "" if layer[c] is None else str(layer[c]) for c in columns
        )
        + " |"
        for layer in report["layers"]
    ]
    lines += ["", "Slowest path after routing:", "", "```", *report["critical_path"], "```", ""]
    return "\n".join(lines)
