"""The parts of the study of the paper, each kept by what it was made of."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import Progress

from model.importers.float_network import FloatNetwork
from model.network import Network
from model.studies.first_spike_paper import VARIANTS, FirstSpikeMeasured, Variant, measure
from model.studies.one_threshold import INPUT_THRESHOLD, fitting_factor, one_threshold
from model.studies.paper.binary import Binary, binary
from model.studies.paper.courses import Course, course
from model.studies.paper.direct import Direct, direct
from model.studies.paper.first_spikes import FirstSpikes, first_spikes
from model.studies.paper.kept import Kept
from model.studies.paper.look import Unreset, unreset
from model.studies.paper.measurements import (
    BUNDLED,
    CONVOLUTIONAL,
    DEFERRED,
    SPARSE,
    TWO_LAYER,
    Measurements,
    SigmaDelta,
    sha256,
)
from model.studies.paper.peers import PAPER_ZOO, PEERS, Peer
from model.studies.paper.published import CLAIMED_ACCUMULATIONS, SPIKES
from model.studies.paper.rate_row import MOST_STEPS, RateRow, fewest_steps, rate_row
from model.studies.paper.rates import Rates, rates
from model.studies.paper.remedies import Remedy, best_remedies, remedy
from model.studies.paper.results import Factors, Ours, SweepPoint
from model.studies.paper.why import Why, why
from model.support.dataset import Dataset
from model.support.errors import BadInputError

__all__ = ["PAPER_THRESHOLDS", "Parts", "read", "row_of", "unchanged"]

PAPER_THRESHOLDS = (1.0, 2.0)
"""Of Table I."""

_BUDGETS = (0.005, 0.002)
"""Accuracy that conversions of the bundled network to deferred firing may lose on the calibration frames; the first is the
default."""

T = TypeVar("T")


def unchanged(values: dict[str, Any]) -> dict[str, Any]:
    """Of a result that is its JSON object."""
    return values


def read(kind: Callable[..., T]) -> Callable[[dict[str, Any]], T]:
    """What makes a dataclass of plain fields from its JSON object."""
    return lambda values: kind(**values)


class Parts:
    """The parts of the study; each measurement is kept."""

    def __init__(
        self,
        network: Path,
        data: Dataset,
        calibration: Dataset,
        held_out: Dataset,
        detail: int,
        cache: Path,
        bar: Progress | None,
    ) -> None:
        for bundled in (CONVOLUTIONAL, TWO_LAYER):
            # Results are by name.
            if network.stem == bundled.stem and sha256(network) != sha256(bundled):
                raise BadInputError(f"network must have another name than the bundled {bundled.name}, not {str(network)!r}")
        self.made = Measurements(data, calibration, network)
        self.network = network
        self.data, self.calibration, self.held_out, self.detail = data, calibration, held_out, detail
        self._kept = Kept((data, calibration, held_out), cache, bar)
        self.networks = (
            (network.stem, self.made.sgd, network),
            (CONVOLUTIONAL.stem, self.made.convolutional, CONVOLUTIONAL),
            (TWO_LAYER.stem, self.made.two_layer, TWO_LAYER),
        )

    def kept(
        self,
        title: str,
        reading: Callable[[Any], T],
        make: Callable[[Callable[[int], None]], T],
        *,
        of: Path | None = None,
        source: str = "paper.measurements",
        frames: int | None = None,
    ) -> T:
        """What a measurement finds, or found before, of the network that is not the paper's own or of that one."""
        depends = (frames, self.detail if source in ("paper.why", "paper.first_spikes") else 0)
        module, files = f"model.studies.{source}", (of or self.network,)
        return self._kept.measured(title, reading, make, source=module, files=files, frames=frames, settings=depends)

    def factors(self) -> Factors:
        """What the bundled network is scaled by to meet the published figures."""
        network, images = self.made.convolutional, self.calibration.images

        def fitting(title: str, **bounds: float) -> float:
            found = self.kept(
                f"factor for the paper's {title}",
                unchanged,
                lambda done: {"factor": fitting_factor(network, images, **bounds)},
                of=CONVOLUTIONAL,
                source="one_threshold",
            )
            return float(found["factor"])

        return Factors(
            accumulations=fitting("accumulations", most_accumulations=CLAIMED_ACCUMULATIONS),
            spikes=fitting("spikes", most_spikes_per_neuron=SPIKES, step=0.1),
        )

    def sweep(self, name: str, floats: FloatNetwork, path: Path, thresholds: Sequence[float]) -> tuple[SweepPoint, ...]:
        """This method at every threshold."""

        def measure(threshold: float) -> SigmaDelta:
            network = one_threshold(floats, threshold)
            made = partial(self.made.sigma_delta, network)
            return self.kept(f"{name}, threshold {threshold:g}", read(SigmaDelta), made, of=path)

        return tuple(SweepPoint(threshold=threshold, figures=measure(threshold)) for threshold in thresholds)

    def deferred(self) -> dict[str, SigmaDelta]:
        """Conversions to deferred firing, and a network that was fine-tuned for it."""
        name, network, path = self.networks[1]
        found = {
            f"{name}, budget {budget:.1%}": self.kept(
                f"{name} deferred, budget {budget:g}", read(SigmaDelta), partial(self.made.deferred, network, budget), of=path
            )
            for budget in _BUDGETS
        }
        tuned = self.kept("fine-tuned, deferred", read(SigmaDelta), partial(self.made.sigma_delta, self.made.tuned), of=DEFERRED)
        return {**found, f"{name}, fine-tuned ({DEFERRED.stem})": tuned}

    def first_spikes(self) -> dict[str, dict[str, FirstSpikes]]:
        """The time to first spike by conversion alone."""
        return {
            name: {
                key: self.kept(
                    f"first spike, {name}, pixels are {key}",
                    read(FirstSpikes),
                    partial(first_spikes, net, self.data, self.calibration.images, spikes),
                    of=path,
                    source="paper.first_spikes",
                )
                for key, spikes in (("currents", False), ("spikes", True))
            }
            for name, net, path in self.networks[1:]
        }

    def rates(self) -> dict[str, Rates]:
        """The rate code on the network trained as the paper's."""
        images = self.calibration.images
        return {
            key: self.kept(
                f"rate code, {key} input",
                read(Rates),
                partial(rates, self.made.sgd, self.data, images, threshold),
                source="paper.rates",
            )
            for key, threshold in (("grey", None), ("1bit", INPUT_THRESHOLD))
        }

    def claims(self, large: dict[str, float]) -> tuple[tuple[Direct, ...], Binary, Unreset]:
        """What single claims of the paper need."""
        without = tuple(
            self.kept(
                f"without hysteresis, threshold {at:g}",
                read(Direct),
                partial(direct, self.made.sgd, at, self.data),
                source="paper.direct",
            )
            for at in PAPER_THRESHOLDS
        )
        once = self.kept(
            "hidden neurons fire once or not", read(Binary), partial(binary, self.made, large), source="paper.binary"
        )
        some = self.data.images[: self.detail]
        network = one_threshold(self.made.sgd, 1.0)
        found = self.kept(
            "potentials within a frame",
            read(Unreset),
            lambda done: unreset(network, some),
            source="paper.look",
            frames=len(some),
        )
        return without, once, found

    def courses(self) -> tuple[Course, ...]:
        """The answer so far."""
        networks = [(f"threshold {at:.1f}", one_threshold(self.made.sgd, at), self.network) for at in PAPER_THRESHOLDS]
        networks.append(("fine-tuned", self.made.sparse, SPARSE))
        return tuple(
            self.kept(
                f"course, {label}",
                read(Course),
                partial(_course, label, network, self.data),
                of=path,
                source="paper.courses",
            )
            for label, network, path in networks
        )

    def whys(self) -> dict[str, Why]:
        """Where accuracy goes."""
        sgd, floats = self.made.sgd, self.made.convolutional
        settings = {f"threshold {at:.1f}": (sgd, one_threshold(sgd, at), self.network) for at in PAPER_THRESHOLDS}
        settings["mnist-paper, bundled conversion"] = (floats, self.made.bundled, BUNDLED)
        return {
            label: self.kept(
                f"why, {label}",
                Why.read,
                partial(why, net, network, self.data, self.calibration.images, self.detail),
                of=path,
                source="paper.why",
                frames=self.detail,
            )
            for label, (net, network, path) in settings.items()
        }

    def peers(self) -> dict[str, Ours]:
        """The other methods, by row; those that train as they spike on training frames too."""
        found = {}
        for peer in PEERS:
            ours = self._peer(peer, self.data)
            if peer.on_training_frames:
                training = self._peer(peer, self.calibration, " on training frames")
                ours = replace(ours, accuracy_training=training.accuracy_snn)
            found[peer.key] = ours
        return found

    def _peer(self, peer: Peer, data: Dataset, where: str = "") -> Ours:
        return self._kept.measured(
            f"row {peer.key}{where}",
            read(Ours),
            partial(peer.measured, peer.network, data),
            source=peer.source,
            files=(peer.file,),
            frames=len(data),
            settings=peer.adapter,
        )

    def remedies(self) -> tuple[Remedy, ...]:
        """Each remedy for late inhibition on each network of [12], chosen among on held-out training frames."""
        some = self.data.limited(self.detail)
        return best_remedies([
            remedy(
                variant,
                self._first_spike(variant, self.held_out, " on held-out frames"),
                self._first_spike(variant, some, f" on {len(some)} frames"),
            )
            for variant in VARIANTS
        ])

    def remedy_rows(self, remedies: Sequence[Remedy]) -> dict[str, Ours]:
        """[12]: by shape of their networks, the rows of the remedies that are chosen."""
        found = {}
        for variant, each in zip(VARIANTS, remedies, strict=True):
            if each.chosen:
                found[variant.shape] = row_of(variant, self._first_spike(variant, self.data))
        return found

    def _first_spike(self, variant: Variant, data: Dataset, where: str = "") -> FirstSpikeMeasured:
        return self._kept.measured(
            f"[12] {variant.network}, {variant.remedy}{where}",
            read(FirstSpikeMeasured),
            lambda done: measure(variant.read(PAPER_ZOO), data, done),
            source="model.studies.first_spike_paper",
            files=(PAPER_ZOO / f"{variant.network}.npz",),
            frames=len(data),
        )

    def rate_row(self, row: Ours) -> Ours:
        """[9]: the rate code on the network of a ``row`` of [12], for as many steps as it takes on held-out training frames."""
        path = PAPER_ZOO / row.network

        def measured(title: str, steps: int, data: Dataset) -> RateRow:
            return self._kept.measured(
                title,
                RateRow.read,
                partial(rate_row, path, steps, data),
                source="model.studies.paper.rate_row",
                files=(path,),
                frames=len(data),
                settings=steps,
            )

        steps = fewest_steps(measured("row [9] on held-out frames", MOST_STEPS, self.held_out))
        found = measured("row [9]", steps, self.data)
        pixels, rates_found = self.data.images[0].size, found.rates
        return Ours(
            network=row.network,
            setting=f"the network of [12], {steps} steps",
            accuracy_ann=found.accuracy_ann,
            accuracy_snn=rates_found.accuracy[-1],
            neurons=row.neurons,
            synapses=row.synapses,
            # Grey pixels are currents, and count as neurons.
            spikes_per_neuron=round(rates_found.spikes_per_neuron[-1] * (row.neurons - pixels) / row.neurons, 5),
            accumulations_per_frame=rates_found.accumulations_per_frame[-1],
        )


def row_of(variant: Variant, found: FirstSpikeMeasured) -> Ours:
    """The row of Table I that a remedy is."""
    return Ours(
        network=f"{variant.network}.npz",
        setting=variant.remedy,
        accuracy_ann=found.accuracy_ann,
        accuracy_snn=found.accuracy,
        neurons=found.neurons,
        synapses=found.synapses,
        spikes_per_neuron=found.spikes_per_neuron,
        spikes_per_neuron_whole=found.spikes_per_neuron_without_end,
        accumulations_per_frame=found.accumulations_per_frame,
    )


def _course(label: str, network: Network, data: Dataset, done: Callable[[int], None]) -> Course:
    return course(label, network, data.images, data.labels, done=done)
