"""Conversion: thresholds and widths chosen on calibration data, and what the network lost on the way."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.conversion.advice import Advice, advise
from model.conversion.chance import other_scale, warn_of_chance
from model.conversion.choice import EXPLAINED, accuracy_of, settle
from model.conversion.coding import InputCoding
from model.conversion.exactness import Exactness
from model.conversion.explain import Step, explain
from model.conversion.fewest import Tried
from model.conversion.from_quantized import check_options, from_quantized
from model.conversion.origin_line import origin_line
from model.conversion.quantize import Settings, fit_widths
from model.conversion.quantized_frames import run_images
from model.engine.engine import run_frames
from model.golden import answers
from model.importers.float_network import ConversionError, FloatNetwork
from model.importers.hardware_form import without_groups
from model.importers.normalization import AS_THEY_ARE, Normalization
from model.importers.onnx import import_onnx
from model.machine.capability import check_machine_can
from model.network import Network
from model.support.datasets import DataError, Dataset, load
from model.support.errors import NetworkError
from model.support.names import SAFE_NAME, is_safe_name, safe_name

__all__ = ["EXPLAINED", "Conversion", "convert", "convert_file"]

_SIMULATED = 20
"""Calibration frames on which the network is simulated in the end, where the search did without."""

_CALIBRATED = 5000
"""Calibration frames where no number is given."""

_CALIBRATED_BY_SIMULATION = 2000
"""The same where every network that is tried is simulated."""

_FEW = 100
"""Fewer calibration frames say little of others: a perceptron lost 14 points on 2,000 digits by 10, 1.5 by 60, none by 200."""

_SCALED = 2000
"""Calibration frames on which other scales of pixels are tried: a wrong one may cost a frame in a hundred."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A converted network, and what it cost.

    Parameters
    ----------
    network : Network
        The network.
    thresholds : dict[str, float]
        ``theta_l`` of each neuron layer, in the float network's units.
    accuracy_float, accuracy_float_1bit, accuracy_snn : float
        On the calibration data.
    accumulations_per_frame : float
        Mean, on the calibration data.
    steps : tuple[Step, ...]
        From the float network to the spiking one, where the accuracy went, on the first `EXPLAINED` frames.
    groups_expanded : tuple[str, ...]
        Grouped convolutions that were written as ordinary ones.
    notes : tuple[str, ...]
        How the calibration frames were read, where that was not as they come.
    warnings : tuple[str, ...]
        What speaks against the result.
    quantized : tuple[Exactness, ...]
        Of a quantized file, how near the counts of each layer are to its levels; empty of any other.
    bias_corrected : bool
        Whether biases make up for rounding (`model.conversion.correction`), as without it the accuracy was out of reach.
    macs_per_frame : int
        Multiplications of the float network.
    accuracy_wanted : float or None
        What a search for thresholds was to reach; None where there was none.
    levels : dict[str, float]
        Thresholds that a large activation of each neuron layer is worth; empty where they were not chosen so.
    tried : tuple[Tried, ...]
        What a search on the quantized network measured, in order.
    advice : tuple[Advice, ...]
        Options that give more accuracy.
    """

    network: Network
    thresholds: dict[str, float]
    accuracy_float: float
    accuracy_float_1bit: float
    accuracy_snn: float
    accumulations_per_frame: float
    frames: int
    steps: tuple[Step, ...]
    groups_expanded: tuple[str, ...] = ()
    bias_corrected: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    macs_per_frame: int = 0
    accuracy_wanted: float | None = None
    levels: dict[str, float] = field(default_factory=dict)
    tried: tuple[Tried, ...] = ()
    quantized: tuple[Exactness, ...] = ()
    advice: tuple[Advice, ...] = ()


def convert(
    float_network: FloatNetwork,
    calibration: Dataset,
    settings: Settings,
    *,
    name: str,
    origin: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> Conversion:
    """Convert, choosing thresholds and widths on ``calibration``.

    Raises
    ------
    ConversionError : the network does not suit
    DataError : the frames do not suit the network
    """
    if float_network.quantized:
        return _from_quantized(float_network, calibration, settings, name=name, origin=origin)
    macs = float_network.macs
    grouped = tuple(layer.name for layer in float_network.layers if layer.groups > 1)
    if settings.ungroup:
        float_network = without_groups(float_network)
    settled = settle(float_network, calibration, settings, name=name, origin=origin, progress=progress)
    job, measured, theta_of = settled.job, settled.measured, settled.job.named(settled.thresholds)
    images, labels = job.data.images, job.data.labels
    network = fit_widths(measured.network, images)
    if settings.for_hardware:
        check_machine_can(network)
    final = job.measure(network)
    if final.accuracy != measured.accuracy:
        raise ConversionError(f"{float_network.path}: widths must not change the answers; report this network")
    if network.deferred:
        _check_engine(network, images)
    progress("where the accuracy went")
    explained = (images[:EXPLAINED], labels[:EXPLAINED])
    before = job.network(settled.thresholds) if settled.corrected else None
    steps = explain(job.floats, network, theta_of, *explained, uncorrected=before, rounding=job.rounding)
    return Conversion(
        network=network,
        thresholds=theta_of,
        accuracy_float=settled.accuracy_float,
        accuracy_float_1bit=settled.accuracy_coded,
        accuracy_snn=final.accuracy,
        accumulations_per_frame=final.accumulations,
        frames=len(images),
        steps=steps,
        groups_expanded=grouped if settings.ungroup else (),
        bias_corrected=settled.corrected,
        notes=job.data.notes,
        warnings=_warnings(job.floats, job.data, job.settings, network, final.accuracy),
        macs_per_frame=macs,
        accuracy_wanted=settled.wanted,
        levels=dict(zip(theta_of, settled.levels, strict=False)),
        tried=settled.tried,
        advice=advise(float_network, calibration, settings, settled, steps),
    )


def _from_quantized(
    floats: FloatNetwork, calibration: Dataset, settings: Settings, *, name: str, origin: str
) -> Conversion:
    """Of a quantized network: its levels are counts, and nothing is chosen."""
    data = calibration.fitted(floats.input_shape, classes=max(2, floats.outputs), threshold=0)
    found = from_quantized(floats, data.images, settings, name=name, origin=origin)
    network = found.network
    if settings.for_hardware:
        check_machine_can(network)
    file = accuracy_of(floats.scores(data.images.astype(np.float32) / 255), data.labels)
    spiking = run_images(network, data.images)
    accuracy = accuracy_of(spiking.counts, data.labels)
    steps, before = [Step("quantized file", "", file, 0.0)], file
    if settings.input_levels is not None or settings.input_threshold is not None:
        coding = InputCoding.of(network)
        before = accuracy_of(floats.scores(coding.frames(data.images).astype(np.float32)), data.labels)
        steps.append(Step("1-bit input" if coding.levels == 1 else "input levels", "", before, round(file - before, 6)))
    steps.append(Step("last place", "", accuracy, round(before - accuracy, 6)))
    coded = replace(
        settings,
        input_levels=network.input_levels,
        input_threshold=network.input_threshold,
        input_step=network.input_step,
    )
    return Conversion(
        network=network,
        thresholds=found.thresholds,
        accuracy_float=file,
        accuracy_float_1bit=before,
        accuracy_snn=accuracy,
        accumulations_per_frame=float(spiking.operations.sum(axis=1).mean()),
        frames=len(data),
        macs_per_frame=floats.macs,
        steps=tuple(steps),
        groups_expanded=tuple(la.name for la in floats.layers if la.groups > 1) if settings.ungroup else (),
        notes=(*data.notes, *found.notes),
        warnings=_warnings(floats, data, coded, network, accuracy),
        quantized=found.layers,
    )


def _check_engine(network: Network, images: npt.NDArray[np.uint8]) -> None:
    """Hold the engine, which simulates events, against the quantized network where that was measured in its place."""
    few = images[:_SIMULATED]
    engine, quantized = run_frames(network, few), run_images(network, few)
    if (engine.counts != quantized.counts).any() or (engine.operations != quantized.operations).any():
        raise ConversionError(f"{network.name}: spikes must be the quantized network's; report this network")


def _warnings(
    float_network: FloatNetwork, data: Dataset, settings: Settings, network: Network, accuracy: float
) -> tuple[str, ...]:
    """What speaks against the result: another scale of pixels suits the network better, or it does no better than chance."""
    some = data.first(_SCALED)
    grey, coded = some.images.astype(np.float32) / 255, settings.coding.frames(some.images).astype(np.float32)

    def answer(frames: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        return answers(float_network.scores(frames))

    float_answers, other = answer(grey), other_scale(answer, (grey, coded), some.labels)
    if other is not None and other[2] > accuracy:
        scale, options, share = other
        remedy = f"give {options}" if float_network.factors is None else "other --scale, --mean or --std suit it better"
        return (
            f"the float network is right on {(float_answers == some.labels).mean():.1%} of {len(some):,} frames with pixels of "
            f"0..1, and on {share:.1%} with pixels of {scale}: it was probably trained on those; {remedy}",
        )
    few = data.first(EXPLAINED)
    spiking, start = answers(run_images(network, few.images).counts), float_answers[: len(few)]
    right = float((start == few.labels).mean())
    return tuple(
        warn_of_chance("the float network", start, few.labels)
        or warn_of_chance("the spiking network", spiking, few.labels, start=right)
        or _few_frames(len(few), chosen=settings.threshold is None and not float_network.quantized)
    )


def _few_frames(frames: int, *, chosen: bool) -> list[str]:
    """A warning where thresholds were ``chosen`` on so few frames that they may not do for others."""
    if frames >= _FEW or not chosen:
        return []
    return [f"thresholds were chosen on {frames} frames, too few to tell what others lose: calibrate on some hundreds"]


def _named_choices(settings: Settings) -> list[str]:
    """What of the settings is not usual, in words."""
    named = settings.rounding_chosen if isinstance(settings.rounding_chosen, tuple) else ()
    choices = {
        f"levels {settings.levels}": settings.levels is not None,
        "firing deferred": settings.deferred,
        "rounding": settings.rounding_chosen is True,
        f"rounding of {', '.join(named)}": bool(named),
        f"bursts of {settings.burst or 'any number'}": settings.burst != 1,
        "thresholds by channel": settings.channel_thresholds,
    }
    return [words for words, chosen in choices.items() if chosen]


def convert_file(
    path: Path | str,
    *,
    calibrate: str = "digits5k",
    data_dir: Path | None = None,
    settings: Settings | None = None,
    name: str | None = None,
    limit: int | None = None,
    layout: str | None = None,
    output: str | None = None,
    normalization: Normalization = AS_THEY_ARE,
    given: Collection[str] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> Conversion:
    """Convert an ONNX file with the training split of data set ``calibrate`` (a name or an ``.npz`` file).

    ``layout``, ``output`` and ``normalization`` say what the file does not (`model.importers.onnx.examine`). ``given`` are the
    options of the command line that were given, of which a quantized file suits only some. ``limit`` is how many frames at most
    are taken; without it as many as suit the search.
    """
    settings = settings or Settings()
    limit = limit or (_CALIBRATED if settings.searches_exactly else _CALIBRATED_BY_SIMULATION)
    name = name if name is not None else safe_name(Path(path).stem)
    if not is_safe_name(name):
        raise NetworkError(f"network's name must be {SAFE_NAME}, not {name!r}")
    data = load(calibrate, "train", data_dir)
    float_network = import_onnx(
        path, layout=layout, input_shape=data.images.shape[1:], output=output, normalization=normalization
    )
    if float_network.quantized:
        check_options(float_network.path, given)
    classes, calibrated = np.unique(data.labels), np.unique(data.labels[:limit])
    if 2 * len(calibrated) <= len(classes):
        raise DataError(
            f"{data.name}: the first {limit:,} frames must hold more than half of the {len(classes)} classes, not only "
            f"{', '.join(map(str, calibrated))}; shuffle the data or raise --frames"
        )
    data = replace(data, images=data.images[:limit], labels=data.labels[:limit])
    label = "all thresholds " + f"{settings.threshold:g}" if settings.threshold is not None else "thresholds chosen"
    choices = [label, *_named_choices(settings)]
    if float_network.quantized:
        choices = ["quantized file", "firing deferred"]
    origin = origin_line(Path(path).name, normalization, ", ".join(choices), frames=len(data.images), data=data.name)
    return convert(float_network, data, settings, name=name, origin=origin, progress=progress)
