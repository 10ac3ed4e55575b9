"""What a conversion found: its JSON form, and lines that a person reads."""

from dataclasses import asdict
from typing import Any

from model.conversion.convert import Conversion
from model.conversion.explain import verdict
from model.network import Neurons

__all__ = ["advice_lines", "conversion_json", "conversion_lines", "conversion_summary"]


def conversion_json(conversion: Conversion) -> dict[str, Any]:
    """All of it, ready for JSON."""
    return {
        "network": conversion.network.name,
        "network_hash": conversion.network.content_hash,
        "frames": conversion.frames,
        "accuracy_ann": conversion.accuracy_float,
        "accuracy_ann_1bit": conversion.accuracy_float_1bit,
        "accuracy_snn": conversion.accuracy_snn,
        "accuracy_wanted": conversion.accuracy_wanted,
        "accumulations_per_frame": conversion.accumulations_per_frame,
        "macs_per_frame": conversion.macs_per_frame,
        "input_levels": conversion.network.input_levels,
        "input_threshold": conversion.network.input_threshold,
        "input_step": conversion.network.input_step,
        "thresholds": conversion.thresholds,
        "levels": conversion.levels,
        "weight_bits": {la.name: la.weight_bits for la in conversion.network.layers if isinstance(la, Neurons)},
        "groups_expanded": list(conversion.groups_expanded),
        "bias_corrected": conversion.bias_corrected,
        "firing": conversion.network.firing,
        "rest": conversion.network.rest,
        "bursts": {la.name: la.burst for la in conversion.network.layers if isinstance(la, Neurons)},
        "tried": [
            {
                "levels": list(tried.levels),
                "input_levels": tried.input_levels,
                "weight_bits": tried.weight_bits,
                "bias_corrected": tried.bias_corrected,
                "frames": tried.frames,
                "accuracy": tried.accuracy,
                "accuracy_expected": tried.expected,
                "accumulations_per_frame": tried.accumulations,
                "spikes_per_frame": tried.spikes,
            }
            for tried in conversion.tried
        ],
        "notes": list(conversion.notes),
        "warnings": list(conversion.warnings),
        "quantized": [asdict(layer) for layer in conversion.quantized],
        "steps": [asdict(step) for step in conversion.steps],
        "verdict": verdict(conversion.steps),
        "advice": [asdict(advice) for advice in conversion.advice],
        "summary": conversion_summary(conversion),
    }


def conversion_summary(conversion: Conversion) -> str:
    """The accuracies in one line."""
    levels = conversion.network.input_levels
    if conversion.quantized:
        return (
            f"accuracy on {conversion.frames} calibration frames: quantized file {conversion.accuracy_float:.4f}, spiking "
            f"{conversion.accuracy_snn:.4f}; {conversion.accumulations_per_frame:,.0f} accumulations per frame"
        )
    coded = "1-bit input" if levels == 1 else f"input of {levels} levels"
    return (
        f"accuracy on {conversion.frames} calibration frames: float {conversion.accuracy_float:.4f}, float on {coded} "
        f"{conversion.accuracy_float_1bit:.4f}, spiking {conversion.accuracy_snn:.4f}; "
        f"{conversion.accumulations_per_frame:,.0f} accumulations per frame, for {conversion.macs_per_frame:,} MACs of the float "
        "network"
    )


def conversion_lines(conversion: Conversion) -> list[str]:
    """The accuracies, and where they went step by step, as lines of text."""
    steps = [
        f"{step.cause:<16} {step.layer:<16} {step.accuracy:>8.2%}" + (f"  lost {step.lost:+.2%}" if step.lost else "")
        for step in conversion.steps
    ]
    return [conversion_summary(conversion), *steps, verdict(conversion.steps), *advice_lines(conversion)]


def advice_lines(conversion: Conversion) -> list[str]:
    """What would give more accuracy, a line each."""
    return [f"what helps, measured on the same frames: {advice}" for advice in conversion.advice]
