"""Fine-tune any network that imports for few events: the spiking network's own counts and events in the loss.

The forward pass is the quantized network (`model.training.quantized_layers`), which in deferred firing is the integer network
itself. What its spikes cost is in the loss, each at its price; the float network that is the start also teaches (distillation,
Hinton et al. 2015). What comes out is for the threshold 1.0 in every layer, weights as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx

from model.conversion.bounds import Bounds
from model.conversion.chance import warn_of_chance
from model.conversion.choice import Job, accuracy_of, prepared
from model.conversion.exact_weights import extremes_of_sums
from model.conversion.fewest import Search
from model.conversion.levels import input_and_rest
from model.conversion.origin_line import tuned_line
from model.conversion.quantize import Settings, fit_widths, quantize
from model.conversion.quantized_frames import run_images
from model.engine.engine import FrameSummaries
from model.golden import answers
from model.importers.float_network import FloatNetwork
from model.importers.hardware_form import without_groups
from model.importers.onnx import import_model
from model.network import INPUT, Network, Neurons
from model.support.datasets import Dataset
from model.support.errors import BadInputError, MismatchError
from model.training.common import held_out, import_torch
from model.training.finetune_settings import NEAR, EpochLine, FinetuneSettings

if TYPE_CHECKING:
    from model.training.quantized_layers import Folded

__all__ = ["EpochLine", "FineTuned", "FinetuneSettings", "fine_tune"]

_CALIBRATED = 2000
"""Training frames that the coding of the input and the first thresholds are chosen on."""

_MUCH = 0.02
"""Accuracy on held-out frames that is not lost without a warning."""

_WIDTHS = 3000
"""Training frames that the widths are chosen on."""

_HELD_AGAINST = 32
"""Held-out frames on which what is written is held against what was trained."""

_LOST_AT_FIRST = 0.02
"""Accuracy that the start may lose to the rounding of counts before it is fine-tuned."""


@dataclass(frozen=True)
class FineTuned:
    """What came of a fine-tuning.

    Parameters
    ----------
    model : onnx.ModelProto
        The float network for the threshold 1.0 in every layer, as a file.
    floats : FloatNetwork
        What is read from it.
    network : Network
        The integer network.
    epochs : tuple of EpochLine
        The start, and every epoch.
    chosen : int
        The epoch whose weights these are.
    held_out : dict
        Accuracies, spikes and accumulations on the held-out frames, and the start's accuracy there, on frames as they are.
    frames_held_out : int
        How many those are.
    notes : tuple of str
        How the frames were read, where that was not as they come.
    warnings : tuple of str
        What speaks against the outcome.
    """

    model: onnx.ModelProto
    floats: FloatNetwork
    network: Network
    epochs: tuple[EpochLine, ...]
    chosen: int
    held_out: dict[str, float]
    frames_held_out: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def fine_tune(
    start: FloatNetwork,
    dataset: Dataset,
    settings: FinetuneSettings,
    *,
    teachers: Sequence[FloatNetwork] = (),
    name: str = "tuned",
    progress: bool = False,
    report: Callable[[str], None] = lambda line: None,
    resume: Path | None = None,
) -> FineTuned:
    """Fine-tune ``start``; every twelfth frame is held out, and only chooses among epochs.

    Parameters
    ----------
    start : FloatNetwork
        A trained network.
    dataset : Dataset
        Training frames.
    settings : FinetuneSettings
        How.
    teachers : sequence of FloatNetwork
        Networks whose answers on frames as they are, together, are part of the loss; the start where there are none.
    name : str
        Of the network.
    progress : bool
        Show progress on standard error.
    report : callable
        Takes a line at the end of each epoch.
    resume : Path, optional
        A file that is written after each epoch; where it is there already, of the same start, data and settings, its epochs are
        not done again. The outcome is the same, bit for bit, on the same versions, processor and number of threads.

    Raises
    ------
    ConversionError, DataError
        The network or the frames do not suit.
    BadInputError
        The file to resume from is of another fine-tuning.
    MismatchError
        The integer network, read from the file that would be written, does not count what its layers count: an error of Tally's.
    """
    import_torch()
    # PyTorch takes seconds to load, and not everyone has it.
    from model.training.quantized_layers import shifted
    from model.training.tuned_onnx import tuned_model
    from model.training.tuning import Tuning

    if start.quantized:
        start = _without_levels(start)
    kept = ~held_out(dataset)
    training, held = (replace(dataset, images=dataset.images[which], labels=dataset.labels[which]) for which in (kept, ~kept))
    job = prepared(start, training.first(_CALIBRATED), settings.conversion, progress=report)
    coding, classes = job.settings.coding, max(2, start.outputs)
    training, held = (data.fitted(start.input_shape, classes=classes, threshold=coding.first) for data in (training, held))
    _check_named(job.floats, settings)
    thresholds = _thresholds(job, settings)
    origin = tuned_line(start.path.name, epochs=settings.epochs, frames=len(training), data=dataset.name)

    def converted(layers: Iterable[Folded], settings: FinetuneSettings = settings) -> Network:
        floats = _imported(tuned_model(start, layers, name), start, name)
        if settings.ungroup:
            floats = without_groups(floats)
        return quantize(floats, [1.0] * len(thresholds), settings.at_threshold_one(coding), name=name, origin=origin)

    def check() -> None:
        deferred = converted(tuning.averaged.folded(), replace(settings, firing="deferred"))
        _check_counts(start, deferred, tuning.counts, held.images[:_HELD_AGAINST])

    tuning = Tuning(job.floats, thresholds, coding, settings, teachers or [start], converted, progress=progress)
    # What would be wrong at the end is wrong at the start.
    check()
    chosen = tuning.run(training, held, report, resume)
    check()
    settled = list(tuning.averaged.folded())
    if settings.firing == "deferred" and settings.rest and _classes(start):
        counts = tuning.counts(training.images[:_WIDTHS])
        settled = shifted(settled, -round(float(counts.min() + counts.max()) / 2))
    model = tuned_model(start, settled, name)
    floats = _imported(model, start, name)
    network = _with_input_bits(fit_widths(converted(settled), training.images[:_WIDTHS]), settings.input_potential_bits)
    float_accuracy = accuracy_of(start.scores(held.images.astype(np.float32) / 255), held.labels)
    found = run_images(network, held.images)
    return FineTuned(
        model=model,
        floats=floats,
        network=network,
        epochs=tuple(tuning.lines),
        chosen=chosen,
        held_out={"accuracy_float_start": float_accuracy, **_measured(network, found, held.labels)},
        frames_held_out=len(held),
        notes=training.notes,
        warnings=(
            *_warnings(answers(found.counts), held.labels, float_accuracy),
            *_over_budget(settings, tuning.lines[chosen]),
            *(() if teachers or not settings.teacher_share else _bad_teacher(tuning.lines[0].accuracy, float_accuracy)),
        ),
    )


def _with_input_bits(network: Network, bits: int | None) -> Network:
    """The network with potentials of ``bits`` bits in the layers that take the input alone, whatever comes in."""
    if bits is None:
        return network
    layers, pixels = [], Bounds.of_input(network.input_shape.channels, network.input_levels)
    for layer in network.layers:
        if isinstance(layer, Neurons) and set(layer.sources) == {INPUT}:
            least, most = extremes_of_sums(layer, {INPUT: pixels})
            if not -(1 << bits - 1) <= least <= most < 1 << bits - 1:
                raise BadInputError(
                    f"input_potential_bits of {layer.name!r} must be enough for sums of {least} to {most} of a frame, "
                    f"not {bits}"
                )
            layer = replace(layer, potential_bits=bits)
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def _check_named(floats: FloatNetwork, settings: FinetuneSettings) -> None:
    """Raise `BadInputError` where widths of single layers do not suit these: no layer of that name, no room for a threshold."""
    known = [layer.name for layer in floats.layers if layer.kind != "maxpool"]
    for field in ("layer_weight_bits", "layer_fraction_bits"):
        for name, _ in getattr(settings, field):
            if name not in known:
                raise BadInputError(f"{field}: {name!r} must be one of the layers of neurons, {', '.join(known)}")
    for layer in floats.layers:
        takes_input = layer.name in known and all(taken.source == INPUT for taken in layer.inputs)
        if settings.input_potential_bits is None or not takes_input:
            continue
        fraction = settings.fraction_of(layer.name)
        if fraction is None:
            raise BadInputError(f"input_potential_bits must not be given without layer_fraction_bits of {layer.name!r}")
        # A threshold has to be within the potentials.
        if fraction > settings.input_potential_bits - 2:
            raise BadInputError(
                f"layer_fraction_bits of {layer.name!r} must be within 0..{settings.input_potential_bits - 2} where "
                f"input_potential_bits is {settings.input_potential_bits}, not {fraction}"
            )


def _thresholds(job: Job, settings: FinetuneSettings) -> list[float]:
    """First thresholds: where levels are not given, twice as many as long as the start loses more than fine-tuning wins back."""
    if settings.keep_thresholds:
        return [1.0] * len(job.large)
    levels = [settings.levels or 1.0] * (len(job.large) - 1)
    if settings.levels is None:
        coded = job.settings.coding.frames(job.data.images).astype(np.float32)
        wanted = accuracy_of(job.floats.scores(coded), job.data.labels) - _LOST_AT_FIRST
        search = Search(job.large, job.steepest, job.ends, job.measurer(False), job.progress, weight_bits=settings.weight_bits)
        levels = list(search.enough(wanted).levels[:-1])
    return job.thresholds([*levels, settings.output_levels])


def _without_levels(floats: FloatNetwork) -> FloatNetwork:
    """A quantized network as a float one: where levels end, activations do; its input's own levels are left out."""
    *_, rest = input_and_rest(floats, Settings(input_levels=1))
    layers = []
    for layer in rest.layers:
        if layer.quantizer is not None:
            low, high = layer.level_limits
            # An output says more where it does not stop at 0.
            relu = layer.relu or (low >= 0 and layer is not rest.layers[-1])
            end = high * layer.quantizer.scale if relu and high > 0 else None
            layer = replace(layer, quantizer=None, relu=relu, end=end)
        layers.append(layer)
    return replace(rest, layers=tuple(layers))


def _classes(floats: FloatNetwork) -> bool:
    """Whether only differences of the outputs decide the answer: all may count so many more, or fewer."""
    output = floats.layers[-1]
    return floats.outputs > 1 and output.kind != "maxpool" and not output.relu


def _imported(model: onnx.ModelProto, start: FloatNetwork, name: str) -> FloatNetwork:
    return import_model(model, f"{name}.onnx", layout="nchw", input_shape=start.input_shape)


def _check_counts(
    start: FloatNetwork,
    network: Network,
    counts: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.floating]],
    images: npt.NDArray[np.uint8],
) -> None:
    """Refuse an integer network, read from what would be written, that counts otherwise than the layers that it was made of."""
    found = run_images(network, images)
    # Layers in training have no widths.
    whole = ~found.saturated_events.any(axis=1)
    differing = (found.counts != counts(images)).any(axis=1) & whole
    if differing.any():
        raise MismatchError(
            f"{start.path}: internal error: the fine-tuned network, as it would be written, counts otherwise than its layers on "
            f"{differing.sum()} of {whole.sum()} held-out frames; nothing is written. Please report it with the file"
        )


def _measured(network: Network, found: FrameSummaries, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """Accuracy by count and by potential, spikes per neuron, and accumulations and saturated events per frame."""
    neurons = [index for index, layer in enumerate(network.layers) if isinstance(layer, Neurons)]
    return {
        "accuracy_snn": accuracy_of(found.counts, labels),
        "accuracy_snn_potential": accuracy_of(found.potentials, labels),
        "spikes_per_neuron": round(float(found.spikes[:, neurons].sum(axis=1).mean()) / network.neurons, 4),
        "accumulations_per_frame": round(float(found.operations.sum(axis=1).mean())),
        "saturated_events": int(found.saturated_events.sum()),
    }


def _over_budget(settings: FinetuneSettings, line: EpochLine) -> tuple[str, ...]:
    """That the epoch that was chosen takes more accumulations than asked for; none is within the budget then."""
    if settings.accumulations is None or line.accumulations_per_frame <= NEAR * settings.accumulations:
        return ()
    return (
        f"accumulations are {line.accumulations_per_frame:,.0f} per held-out frame, not the {settings.accumulations:,.0f} asked "
        "for: more epochs or frames give the event price time",
    )


def _bad_teacher(counting: float, start: float) -> tuple[str, ...]:
    """That the start, as a float network, is worse than its counts, as one is that was trained with counts."""
    if start >= counting - _MUCH:
        return ()
    return (
        f"the start is right on {counting:.1%} of the held-out frames by its counts, but on {start:.1%} as a float network, "
        "and teaches: --teacher FILE gives another teacher",
    )


def _warnings(spiking: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], start: float) -> tuple[str, ...]:
    """What speaks against the outcome: it does no better than chance, or much worse than the start."""
    right = float((spiking == labels).mean())
    chance = warn_of_chance("the spiking network", spiking, labels)
    if chance or right >= start - _MUCH:
        return tuple(chance)
    return (
        f"the spiking network is right on {right:.1%} of {len(labels):,} held-out frames, the start on {start:.1%}: more epochs, "
        "more frames, a lower event price or more levels may help",
    )
