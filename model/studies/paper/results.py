"""What the study of the paper measures."""

from dataclasses import dataclass, field

from model.studies.paper.binary import Binary
from model.studies.paper.courses import Course
from model.studies.paper.direct import Direct
from model.studies.paper.first_spikes import FirstSpikes, MissedLayer
from model.studies.paper.look import Look, Unreset
from model.studies.paper.measurements import Counting, SigmaDelta
from model.studies.paper.published import PublishedRow
from model.studies.paper.rates import Rates
from model.studies.paper.remedies import Remedy
from model.studies.paper.why import Why
from model.support.results import BESIDE

__all__ = [
    "Calibration",
    "Factors",
    "Ours",
    "PaperStudy",
    "Row",
    "SweepPoint",
    "TableRow",
]


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """This method's figures at one ``threshold`` of all layers."""

    threshold: float
    figures: SigmaDelta = field(metadata=BESIDE)


@dataclass(frozen=True, kw_only=True)
class Ours:
    """Our figures of a row of Table I; None where the method has none.

    Parameters
    ----------
    network : str
        What was measured: a file of ``model/zoo``.
    setting : str
        What the paper does not say: how long a frame takes, or which variant it is.
    accuracy_ann, accuracy_qann, accuracy_snn : float or None
        Of the float, the quantized and the spiking network.
    neurons, synapses : int
        Counted as the paper does: with the input's pixels, and weights that are shared once.
    spikes_per_neuron : float or None
        Spikes of pixels and neurons, by the number of pixels and neurons; until the answer where that ends the frame.
    spikes_per_neuron_whole : float or None
        The same of frames that do not end with the answer, where it does end them.
    accumulations_per_frame : float or None
        Mean.
    accuracy_training : float or None
        Of the spiking network on the training frames that scales are taken from, where that was measured; training held a
        twelfth of them out.
    accuracy_counted : float or None
        Where the output's weights multiply the counts of the spikes that reach it, in place of its own firing; where that was
        measured.
    """

    network: str
    setting: str = ""
    accuracy_ann: float | None = None
    accuracy_qann: float | None = None
    accuracy_snn: float
    neurons: int
    synapses: int
    spikes_per_neuron: float | None = None
    spikes_per_neuron_whole: float | None = None
    accumulations_per_frame: float | None = None
    accuracy_training: float | None = None
    accuracy_counted: float | None = None


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of Table I: what is published, and our figures; None where the network was not built."""

    published: PublishedRow = field(metadata=BESIDE)
    ours: Ours | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A further row of ours.

    Parameters
    ----------
    method, network, setting : str
        What was measured.
    accuracy, accuracy_lost : float
        By spike count, and how much less than the float network's on the same input.
    accuracy_potential : float or None
        By membrane potential, where the method has one.
    spikes_per_neuron, accumulations_per_frame
        Means per frame.
    beside : str
        Operations that are not in the count, or of another kind.
    """

    method: str
    network: str
    setting: str
    accuracy: float
    accuracy_lost: float
    accuracy_potential: float | None
    spikes_per_neuron: float
    accumulations_per_frame: float
    beside: str


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The training frames that scales and factors are taken from, and how many of those that were held out are chosen on."""

    dataset: str
    frames: int
    held_out_frames: int


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Factors by which the bundled network is scaled, so that threshold 1.0 meets the paper's accumulations, or spikes."""

    accumulations: float
    spikes: float


@dataclass(frozen=True, kw_only=True)
class PaperStudy:
    """What `study` measures; accuracies as shares, everything else per frame unless its name says otherwise.

    Parameters
    ----------
    network : str
        The float network of the paper's own rows.
    dataset, frames, detail_frames, calibration, sha256
        On what, of which networks.
    table_one : tuple of TableRow
        Table I.
    remedies : tuple of Remedy
        The variants of the rows of [12].
    counting : Counting
        What the paper's numbers of neurons and synapses count.
    accuracy_ann : dict
        Of each float network its accuracy on ``grey`` and on ``1bit`` frames.
    large_activations : dict
        Of each convolutional network and each layer what counts as a large activation.
    factors : Factors
        What the bundled network is scaled by.
    rows : tuple of Row
        Rows of ours that the paper's Table I does not have.
    thresholds, bundled_thresholds : tuple of SweepPoint
        This method against the threshold of all layers: of the network trained as the paper's, and of the bundled one.
    direct : tuple of Direct
        The same without hysteresis.
    binary : Binary
        Hidden neurons that fire once or not.
    unreset : Unreset
        Whether anything resets within a frame.
    deferred : dict
        Neurons that fire when the frame ends: figures by network and accuracy budget.
    sparse, bundled : SigmaDelta
        The fine-tuned network, and the bundled conversion.
    rates : dict
        The rate code, of ``grey`` and of ``1bit`` frames.
    first_spikes : dict
        The time to first spike, of each network, with pixels as ``currents`` and as ``spikes``.
    courses : tuple of Course
        The answer so far.
    look : Look
        The first frame.
    why : dict
        Of each setting where its accuracy goes.
    why_first_spike : tuple of MissedLayer
        The same of the time to first spike.
    """

    network: str
    dataset: str
    frames: int
    detail_frames: int
    calibration: Calibration
    sha256: dict[str, str]
    table_one: tuple[TableRow, ...]
    remedies: tuple[Remedy, ...]
    counting: Counting
    accuracy_ann: dict[str, dict[str, float]]
    large_activations: dict[str, dict[str, float]]
    factors: Factors
    rows: tuple[Row, ...]
    thresholds: tuple[SweepPoint, ...]
    bundled_thresholds: tuple[SweepPoint, ...]
    direct: tuple[Direct, ...]
    binary: Binary
    unreset: Unreset
    deferred: dict[str, SigmaDelta]
    sparse: SigmaDelta
    bundled: SigmaDelta
    rates: dict[str, Rates]
    first_spikes: dict[str, dict[str, FirstSpikes]]
    courses: tuple[Course, ...]
    look: Look
    why: dict[str, Why]
    why_first_spike: tuple[MissedLayer, ...]
