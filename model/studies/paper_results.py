"""What the study of the paper measures, and what is known to us of published figures."""

from dataclasses import dataclass, field
from typing import Any

from model.conversion.explain import Step
from model.support.results import BESIDE

__all__ = [
    "PUBLISHED",
    "Calibration",
    "Factors",
    "FirstSpikes",
    "LabelledCourse",
    "MissedLayer",
    "MissedLayers",
    "PaperStudy",
    "Published",
    "Rates",
    "Row",
    "SigmaDelta",
    "SweepPoint",
    "Why",
    "WhyLayer",
]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published figure set, as far as it is known to us; accuracies as shares.

    Parameters
    ----------
    accuracy, spikes_per_neuron : float or None
        As published.
    most_accumulations_per_frame : int or None
        The published bound.
    remark : str or None
        What its authors' abstract says where there are no figures.
    source : str
        Where the figures come from.
    """

    accuracy: float | None
    spikes_per_neuron: float | None
    most_accumulations_per_frame: int | None
    remark: str | None
    source: str


PUBLISHED = {
    "sigma-delta": Published(
        accuracy=0.9919,
        spikes_per_neuron=0.25,
        most_accumulations_per_frame=600_000,
        remark=None,
        source="Yousefzadeh et al. 2019; for which of its thresholds is not known to us",
    ),
    "rate": Published(
        accuracy=None,
        spikes_per_neuron=None,
        most_accumulations_per_frame=None,
        remark="LeNet for MNIST: more than 2 times fewer operations than the float network where the error may grow by a few "
        "percentage points",
        source="abstract of Rueckauer et al. 2017, https://doi.org/10.3389/fnins.2017.00682",
    ),
    "first spike": Published(
        accuracy=None,
        spikes_per_neuron=None,
        most_accumulations_per_frame=None,
        remark="MNIST: 7 to 10 times fewer operations than the rate-based model, at an accuracy loss of less than 1 %",
        source="abstract of Rueckauer and Liu 2018, https://www.zora.uzh.ch/id/eprint/168616/",
    ),
}
"""What is known to us of published figures."""


@dataclass(frozen=True, kw_only=True)
class SigmaDelta:
    """This method's figures; accuracies as shares, everything else per frame."""

    accuracy: float
    accuracy_potential: float
    accuracy_quantized: float
    spikes_per_neuron: float
    accumulations_per_frame: int
    input_spikes_per_frame: float


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """This method's figures at one ``threshold`` of all layers."""

    threshold: float
    figures: SigmaDelta = field(metadata=BESIDE)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The rate code's figures after each of its time ``steps``."""

    scales: list[float]
    steps: list[int]
    accuracy: list[float]
    accuracy_potential: list[float]
    spikes_per_neuron: list[float]
    accumulations_per_frame: list[float]
    input_operations_per_frame: int
    current_additions_per_step: int


@dataclass(frozen=True, kw_only=True)
class FirstSpikes:
    """The figures of the time to first spike, where the frame ends with the answer and where it does not."""

    scales: list[float]
    accuracy: float
    answer_time_mean: float
    frames_without_output_spike: int
    spikes_per_neuron: float
    accumulations_per_frame: int
    accumulations_per_frame_without_end: int
    spikes_per_neuron_without_end: float
    input_operations_per_frame: int
    input_spikes_per_frame: float


@dataclass(frozen=True, kw_only=True)
class LabelledCourse:
    """Accuracy of the answer so far against time, of the network that ``label`` names."""

    label: str
    time: list[float]
    accuracy: list[float]


@dataclass(frozen=True, kw_only=True)
class WhyLayer:
    """Activations of a layer in thresholds, and its spikes and counts, means per frame."""

    layer: str
    neurons: int
    threshold: float
    large_activation_thresholds: float
    median_positive_activation_thresholds: float
    positive_activations: float
    spikes_per_neuron: float
    spikes_per_frame: float
    counts_per_frame: float
    quantized_counts_per_frame: float
    negative_spikes: float


@dataclass(frozen=True, kw_only=True)
class Why:
    """Where a network's accuracy goes: the steps of `model.conversion.explain`, what they come to, and its layers."""

    steps: tuple[Step, ...]
    verdict: str
    layers: tuple[WhyLayer, ...]

    @classmethod
    def read(cls, values: dict[str, Any]) -> "Why":
        """From its JSON object."""
        return cls(
            steps=tuple(Step(**step) for step in values["steps"]),
            verdict=values["verdict"],
            layers=tuple(WhyLayer(**layer) for layer in values["layers"]),
        )


@dataclass(frozen=True, kw_only=True)
class MissedLayer:
    """Shares of active and of silent neurons that fire, and how times and activations correlate; None where there are none."""

    layer: str
    fired_of_active: float | None
    fired_of_silent: float | None
    correlation: float | None


@dataclass(frozen=True, kw_only=True)
class MissedLayers:
    """Of each layer of the time-to-first-spike network, what its neurons do against the float network's."""

    layers: tuple[MissedLayer, ...]

    @classmethod
    def read(cls, values: dict[str, Any]) -> "MissedLayers":
        """From its JSON object."""
        return cls(layers=tuple(MissedLayer(**layer) for layer in values["layers"]))


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of Table I.

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
    scaled_to : str or None
        Which of the published figures the network is scaled to: ``accumulations`` or ``spikes``.
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
    scaled_to: str | None = None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The frames that scales and factors are taken from."""

    dataset: str
    frames: int


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Factors by which the network is scaled, so that threshold 1.0 meets the published accumulations, or spikes."""

    accumulations: float
    spikes: float


@dataclass(frozen=True, kw_only=True)
class PaperStudy:
    """What `study` measures; accuracies as shares, everything else per frame unless its name says otherwise.

    Parameters
    ----------
    dataset, frames, detail_frames, calibration, onnx_sha256
        On what, of which networks.
    published : dict
        Of each method what is known of published figures.
    accuracy_ann : dict
        Of each float network its accuracy on ``grey`` and on ``1bit`` frames.
    large_activations : dict
        Of each layer what counts as a large activation.
    factors : Factors
        What the network is scaled by.
    rows : tuple of Row
        Table I.
    thresholds : tuple of SweepPoint
        This method against the threshold of all layers.
    bundled : SigmaDelta
        This method with the bundled network's thresholds.
    rates : dict
        The rate code, of ``grey`` and of ``1bit`` frames.
    first_spikes : dict
        The time to first spike, of each network, with pixels as ``currents`` and as ``spikes``.
    courses : tuple of LabelledCourse
        The answer so far, of each setting.
    why : dict
        Of each setting where its accuracy goes.
    why_first_spike : tuple of MissedLayer
        The same of the time to first spike.
    """

    dataset: str
    frames: int
    detail_frames: int
    calibration: Calibration
    onnx_sha256: dict[str, str]
    published: dict[str, Published]
    accuracy_ann: dict[str, dict[str, float]]
    large_activations: dict[str, float]
    factors: Factors
    rows: tuple[Row, ...]
    thresholds: tuple[SweepPoint, ...]
    bundled: SigmaDelta
    rates: dict[str, Rates]
    first_spikes: dict[str, dict[str, FirstSpikes]]
    courses: tuple[LabelledCourse, ...]
    why: dict[str, Why]
    why_first_spike: tuple[MissedLayer, ...]
