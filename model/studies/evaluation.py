"""Accuracy, spikes and operations of a network on a data set, stage by stage."""

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress

from model.conversion.chance import warn_of_chance
from model.conversion.coding import InputCoding
from model.conversion.from_quantized import layers_as_built
from model.conversion.origin_line import normalization_in
from model.conversion.quantized import quantized_counts
from model.engine.engine import FrameSummaries, run_frames
from model.golden import answers
from model.importers.float_network import FloatNetwork
from model.importers.normalization import AS_THEY_ARE, Normalization
from model.importers.onnx import import_onnx
from model.network import INPUT, Layer, Network, Neurons, Shape
from model.projection import ConvolutionProjection, LinearProjection, TransposedProjection
from model.studies.instruments import Agreement, Course, confusion, instruments
from model.studies.origin import another_origin, check_structure
from model.support.dataset import Dataset
from model.support.frames import suited

__all__ = ["Evaluation", "LayerWork", "evaluate", "macs"]


_NONE = "no --mean, --std or --scale"


@dataclass(frozen=True, kw_only=True)
class LayerWork:
    """What a layer does in a frame, mean of all frames.

    Parameters
    ----------
    layer, kind : str
        Name and kind of the layer.
    shape : Shape
        Of its output.
    neurons : int
        Its neurons; 0 for a max-pool.
    events_per_frame, spikes_per_frame, spikes_per_neuron, accumulations_per_frame : float
        Input events, spikes, and accumulations.
    macs_true, macs_paper : int
        Multiply-accumulates of the float layer: see `macs`.
    saturated_events : int
        Input events that saturated something, in all frames.
    """

    layer: str
    kind: str
    shape: Shape
    neurons: int
    events_per_frame: float
    spikes_per_frame: float
    spikes_per_neuron: float
    accumulations_per_frame: float
    macs_true: int
    macs_paper: int
    saturated_events: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `evaluate` measures; accuracies as shares, everything else per frame unless its name says otherwise.

    Parameters
    ----------
    network, network_hash, dataset : str
        What was evaluated, on what.
    float_network : str or None
        The file of the float network; None where there is none.
    accuracy_ann, accuracy_ann_1bit : float or None
        Of the float network on grey frames and on coded ones (of one bit per pixel, or of the network's levels); None where
        there is no float network.
    input_levels : int
        Spikes that a pixel fires at most.
    firing : str
        The network's, one of `model.network.FIRINGS`.
    frames : int
        Frames.
    notes : tuple of str
        How the frames were read, and the float network, where that was not as they come.
    warnings : tuple of str
        What speaks against the result.
    accuracy_qann : float
        Of the quantized network, which knows no events.
    accuracy_snn, accuracy_snn_potential : float
        Of the spiking network, by spike count and by membrane potential.
    input_events_per_frame, spikes_per_neuron, accumulations_per_frame, macs_true, macs_paper, saturated_events
        As of a layer, for the whole network.
    frames_per_second : float
        The pace of this machine, every event of each frame.
    float_frames_per_second : float or None
        That of ONNX Runtime with the float network, where there is one.
    cores : int or None
        Processor cores of this machine.
    layers : tuple of LayerWork
        Of each layer, what it does.
    agreement : tuple of Agreement
        Of each neuron layer, how its counts agree with the quantized and the float network.
    course : Course
        The answer so far.
    confusion : list of list of int
        Frames by class and answer.
    """

    network: str
    network_hash: str
    dataset: str
    float_network: str | None = None
    accuracy_ann: float | None = None
    accuracy_ann_1bit: float | None = None
    input_levels: int
    firing: str
    frames: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    accuracy_qann: float
    accuracy_snn: float
    accuracy_snn_potential: float
    input_events_per_frame: float
    spikes_per_neuron: float
    accumulations_per_frame: int
    macs_true: int
    macs_paper: int
    saturated_events: int
    frames_per_second: float
    float_frames_per_second: float | None = None
    cores: int | None
    layers: tuple[LayerWork, ...]
    agreement: tuple[Agreement, ...]
    course: Course
    confusion: list[list[int]]


def macs(network: Network, layer: Layer) -> tuple[int, int]:
    """Multiply-accumulates of the float layer, windows not clipped: the true count, and the paper's.

    The paper's footnote leaves out the input channels of convolutions.
    """
    true = paper = 0
    for taker, shape, _ in network.inputs(layer):
        if isinstance(taker, ConvolutionProjection):
            # A transposed convolution has a window for each input, and not for each output.
            windows = taker.taken(shape) if isinstance(taker, TransposedProjection) else network.shape_of(layer.name)
            positions = windows.height * windows.width * taker.channels * taker.kernel[0] * taker.kernel[1]
            true, paper = true + positions * taker.weights.shape[1], paper + positions
        elif isinstance(taker, LinearProjection):
            true, paper = true + taker.weights.size, paper + taker.weights.size
    return true, paper


def evaluate(
    network: Network,
    data: Dataset,
    *,
    onnx: Path | None = None,
    layout: str | None = None,
    output: str | None = None,
    normalization: Normalization | None = None,
    detail: int = 1000,
    bar: Progress | None = None,
) -> Evaluation:
    """Run ``network`` on all frames of ``data``; the float network too where ``onnx`` names it.

    Parameters
    ----------
    network : Network
        The network to evaluate.
    data : Dataset
        The frames to evaluate it on.
    onnx : Path, optional
        The float network's file.
    layout, output, normalization : str, str, Normalization, optional
        What that file does not say (`model.importers.onnx.examine`). The normalization is by default the one that the network's
        origin says it was converted with.
    detail : int
        Number of frames, the first ones, of which every spike is looked at: agreement of counts, course of the answer.
    bar : Progress, optional
        Shows progress.

    Returns
    -------
    Evaluation
        What was measured.

    Raises
    ------
    DataError
        The frames do not suit the network.
    ConversionError
        The float network cannot be read, or has other layers.
    """
    data = suited(network, data)
    floats, notes = None, data.notes
    doubts: list[str] = []
    if onnx is not None:
        floats, doubts = _read(network, onnx, layout, output, normalization)
        if normalization is None and (recorded := normalization_in(network.origin)) not in (None, AS_THEY_ARE):
            notes += (f"the float network is read with {recorded}, as {network.name!r} was converted",)
    of_float = _float_network(network, data, floats)
    task = bar.add_task(f"{network.name} on {data.name}", total=len(data)) if bar else None
    # Loading the compiled kernels, which takes as long as a thousand frames, is no part of the pace.
    run_frames(network, data.images[:1])
    started = time.monotonic()

    def advance(frames: int) -> None:
        if bar and task is not None:
            bar.advance(task, frames)

    summaries = run_frames(network, data.images, done=advance)
    seconds = time.monotonic() - started
    by_count = answers(summaries.counts)
    quantized = answers(quantized_counts(network, data.images))
    detail = min(detail, len(data))
    task = bar.add_task(f"every spike of {detail:,} frames", total=detail) if bar else None
    agreement, course = instruments(network, data.images[:detail], data.labels[:detail], floats=floats, done=advance)
    spikes, operations = summaries.spikes.mean(axis=0), summaries.operations.mean(axis=0)
    work = [macs(network, layer) for layer in network.layers]
    fired = sum(s for s, layer in zip(spikes, network.layers, strict=True) if isinstance(layer, Neurons))
    return Evaluation(
        network=network.name,
        network_hash=network.content_hash,
        dataset=data.name,
        float_network=str(onnx) if onnx is not None else None,
        **of_float,
        input_levels=network.input_levels,
        firing=network.firing,
        frames=len(data),
        notes=notes,
        warnings=(*doubts, *warn_of_chance("the spiking network", by_count, data.labels)),
        accuracy_qann=float((quantized == data.labels).mean()),
        accuracy_snn=float((by_count == data.labels).mean()),
        accuracy_snn_potential=float((answers(summaries.potentials) == data.labels).mean()),
        input_events_per_frame=round(float(summaries.input_events.mean()), 2),
        spikes_per_neuron=round(float(fired / network.neurons), 4),
        accumulations_per_frame=round(float(operations.sum())),
        macs_true=sum(true for true, _ in work),
        macs_paper=sum(paper for _, paper in work),
        saturated_events=int(summaries.saturated_events.sum()),
        frames_per_second=round(len(data) / seconds, 1),
        cores=os.cpu_count(),
        layers=_layers(network, summaries),
        agreement=agreement,
        course=course,
        confusion=confusion(by_count, data.labels, network.classes),
    )


def _read(
    network: Network, onnx: Path, layout: str | None, output: str | None, normalization: Normalization | None
) -> tuple[FloatNetwork, list[str]]:
    """The float network of ``network``, and what speaks against its being that."""
    recorded, doubts = normalization_in(network.origin), []
    chosen = normalization or recorded or AS_THEY_ARE
    read = partial(import_onnx, onnx, layout=layout, input_shape=network.input_shape, output=output)
    floats = read(normalization=chosen)
    if recorded not in (None, chosen) and not _same_input(floats, read(normalization=recorded)):
        doubts.append(
            f"{onnx} is read with {str(chosen) or _NONE}, but {network.name!r} was converted with {str(recorded) or _NONE}: all "
            "figures of the float network are another network's; leave --mean, --std and --scale out, and they are those of the "
            "conversion"
        )
    floats = layers_as_built(floats, network)
    check_structure(network, floats)
    if (other := another_origin(network, floats)) is not None:
        doubts.append(
            f"{onnx} is not the float network that {network.name!r} was converted from: the weights of layer {other!r} are "
            "others; all figures of the float network are another network's"
        )
    return floats, doubts


def _same_input(floats: FloatNetwork, other: FloatNetwork) -> bool:
    """Whether two readings of a file take the same in place of pixels, but for what a text may have rounded."""
    ones = [(1.0, 0.0) if each.factors is None else each.factors for each in (floats, other)]
    return all(np.allclose(first, second, rtol=1e-5, atol=1e-9) for first, second in zip(*ones, strict=True))


def _layers(network: Network, summaries: FrameSummaries) -> tuple[LayerWork, ...]:
    """What each layer takes and does in a mean frame."""
    spikes, operations = summaries.spikes.mean(axis=0), summaries.operations.mean(axis=0)
    saturated = summaries.saturated_events.sum(axis=0)
    arriving = {INPUT: float(summaries.input_events.mean())}
    arriving |= {layer.name: float(fired) for layer, fired in zip(network.layers, spikes, strict=True)}
    work = [macs(network, layer) for layer in network.layers]
    return tuple(
        LayerWork(
            layer=layer.name,
            kind=layer.KIND,
            shape=shape,
            neurons=shape.size if isinstance(layer, Neurons) else 0,
            events_per_frame=round(sum(arriving[source] for source in layer.sources), 2),
            spikes_per_frame=round(float(spikes[index]), 2),
            spikes_per_neuron=round(float(spikes[index]) / shape.size, 4),
            accumulations_per_frame=round(float(operations[index]), 1),
            macs_true=work[index][0],
            macs_paper=work[index][1],
            saturated_events=int(saturated[index]),
        )
        for index, (layer, _, shape) in enumerate(network.walk())
    )


def _float_network(network: Network, data: Dataset, floats: FloatNetwork | None) -> dict[str, float]:
    """Accuracies of the float network on grey frames and on frames as they are coded, and its pace; none where there is none."""
    if floats is None:
        return {}
    found = {}
    coded = InputCoding.of(network).frames(data.images)
    for key, images in (("accuracy_ann", data.images / 255), ("accuracy_ann_1bit", coded)):
        values = images.astype(np.float32)
        # Of the second time: the first loads and optimizes the network.
        started = time.monotonic()
        scores = floats.scores(values)
        found["float_frames_per_second"] = round(len(data) / (time.monotonic() - started), 1)
        found[key] = float((answers(scores) == data.labels).mean())
    return found
