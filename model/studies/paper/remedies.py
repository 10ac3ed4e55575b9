"""The rows of [12]: each remedy for inhibition that comes late on each of the two networks, and which is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from model.studies.first_spike_paper import FirstSpikeMeasured, Variant

__all__ = ["Remedy", "best_remedies", "remedy"]


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A network with a remedy.

    Parameters
    ----------
    network, shape, remedy : str
        As of `model.studies.first_spike_paper.Variant`.
    accuracy_held_out : float
        Of the spiking network on training frames that no training saw.
    accuracy_ann, accuracy : float
        Of the float and of the spiking network on some frames to measure on.
    spikes_per_neuron, spikes_per_neuron_whole : float
        On the same frames, until the first output spike, and where they do not end with it.
    chosen : bool
        Whether no other remedy has a higher accuracy on the held-out frames.
    """

    network: str
    shape: str
    remedy: str
    accuracy_held_out: float
    accuracy_ann: float
    accuracy: float
    spikes_per_neuron: float
    spikes_per_neuron_whole: float
    chosen: bool = False


def remedy(variant: Variant, held_out: FirstSpikeMeasured, found: FirstSpikeMeasured) -> Remedy:
    """What was measured of a variant, on held-out training frames and on those that count."""
    return Remedy(
        network=variant.network,
        shape=variant.shape,
        remedy=variant.remedy,
        accuracy_held_out=held_out.accuracy,
        accuracy_ann=found.accuracy_ann,
        accuracy=found.accuracy,
        spikes_per_neuron=found.spikes_per_neuron,
        spikes_per_neuron_whole=found.spikes_per_neuron_without_end,
    )


def best_remedies(remedies: Sequence[Remedy]) -> tuple[Remedy, ...]:
    """The same, with the one of each network that is best on held-out frames marked; of equals the one that fires least."""
    best: dict[str, tuple[tuple[float, float], Remedy]] = {}
    for each in remedies:
        rank = (-each.accuracy_held_out, each.spikes_per_neuron)
        if each.network not in best or rank < best[each.network][0]:
            best[each.network] = (rank, each)
    return tuple(replace(each, chosen=best[each.network][1] is each) for each in remedies)
