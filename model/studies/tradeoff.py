"""The trade-off that `python -m model.train --sparse` chooses a point of: accuracy against spikes, and weight bits.

From one start, short fine-tunings at several prices of an event, and at several widths of the weights. All accuracies are
of the integer network, by spike count, on the training frames that are held out for validation.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.importers.onnx import import_onnx
from model.network import Network
from model.support.cache import kept
from model.support.choices import ZOO
from model.support.datasets import Dataset
from model.support.results import BESIDE, to_json
from model.training.common import held_out
from model.training.paper_network import export_onnx, load_network
from model.training.sparse import SparseSettings, fine_tune, measure

__all__ = ["Measured", "Point", "Tradeoff", "point", "study"]

_CALIBRATED = 3000
"""Frames that conversion is calibrated on."""

_BUNDLED = ("mnist-paper", "mnist-sparse")
"""Networks that are shown beside the points."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What `model.training.sparse.measure` finds on the held-out frames.

    Parameters
    ----------
    accuracy_snn, accuracy_snn_potential : float
        Accuracy by spike count and by membrane potential.
    spikes_per_neuron : float
        Spikes per neuron per frame.
    accumulations_per_frame : int
        Accumulations.
    saturated_events : int
        Events that saturated something, in all frames.
    """

    accuracy_snn: float
    accuracy_snn_potential: float
    spikes_per_neuron: float
    accumulations_per_frame: int
    saturated_events: int


@dataclass(frozen=True, kw_only=True)
class Point:
    """One fine-tuned network: how it was made, and what it does."""

    settings: SparseSettings = field(metadata=BESIDE)
    measured: Measured = field(metadata=BESIDE)


@dataclass(frozen=True, kw_only=True)
class Tradeoff:
    """What `study` finds.

    Parameters
    ----------
    dataset : str
        The training frames.
    frames_validation : int
        Those of them that are held out.
    start : str
        Name of the file that was fine-tuned.
    prices, bits : tuple of Point
        At several prices of an event, and at several widths of the weights.
    bundled : dict
        The bundled networks, by name.
    """

    dataset: str
    frames_validation: int
    start: str
    prices: tuple[Point, ...]
    bits: tuple[Point, ...]
    bundled: dict[str, Measured]


def study(
    start: Path,
    dataset: Dataset,
    folder: Path,
    *,
    prices: Sequence[SparseSettings],
    bits: Sequence[SparseSettings],
    tell: Callable[[Point], None] = lambda point: None,
) -> Tradeoff:
    """Make all points.

    Parameters
    ----------
    start : Path
        The network to fine-tune.
    dataset : Dataset
        Training frames; some of them are held out.
    folder : Path
        Folder in which points are kept by what they were made of.
    prices, bits : sequence of SparseSettings
        The points to make.
    tell : callable
        Told each point.

    Returns
    -------
    Tradeoff
        What was found.
    """

    def made(settings: SparseSettings) -> Point:
        found = point(settings, start, dataset, folder)
        tell(found)
        return found

    held = held_out(dataset)
    return Tradeoff(
        dataset=dataset.name,
        frames_validation=int(held.sum()),
        start=start.name,
        prices=tuple(map(made, prices)),
        bits=tuple(map(made, bits)),
        bundled={
            name: Measured(**measure(Network.load(ZOO / f"{name}.npz"), dataset.images[held], dataset.labels[held]))
            for name in _BUNDLED
        },
    )


def point(settings: SparseSettings, start: Path, dataset: Dataset, folder: Path) -> Point:
    """One fine-tuned network, measured on the held-out frames.

    It is kept in ``folder``, in a file whose name is a digest of the settings, the start and the data.
    """
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for content in (start.read_bytes(), dataset.images.tobytes(), dataset.labels.tobytes()):
        digest.update(content)

    def make(part: Path) -> None:
        network = fine_tune(settings, load_network(start), dataset, teacher=load_network(ZOO / "mnist-paper.onnx"))
        exported = part.with_suffix(".onnx")
        export_onnx(network, exported)
        held = held_out(dataset)
        calibration = replace(dataset, images=dataset.images[~held][:_CALIBRATED], labels=dataset.labels[~held][:_CALIBRATED])
        chosen = Settings(weight_bits=settings.weight_bits, threshold=1.0)
        found = convert(import_onnx(exported), calibration, chosen, name="point").network
        exported.unlink()
        measured = Measured(**measure(found, dataset.images[held], dataset.labels[held]))
        part.write_text(to_json(Point(settings=settings, measured=measured)))

    values = json.loads(kept(folder / f"{digest.hexdigest()[:24]}.json", make).read_text())
    return Point(settings=settings, measured=Measured(**{item.name: values[item.name] for item in fields(Measured)}))
