"""Which remedy stands in the table."""

from model.studies.first_spike_paper import VARIANTS, FirstSpikeMeasured
from model.studies.paper.parts import row_of
from model.studies.paper.remedies import best_remedies, remedy


def measured(accuracy, spikes=0.1, ann=0.99):
    return FirstSpikeMeasured(
        frames=10, accuracy_ann=ann, accuracy=accuracy, neurons=100, synapses=500, weights=400, spikes_per_neuron=spikes,
        spikes_per_neuron_without_end=2 * spikes, accumulations_per_frame=70, input_operations_per_frame=1,
        threshold_additions_per_frame=0, answer_time_mean=1.0, frames_without_output_spike=0,
    )  # fmt: skip


def test_the_best_of_each_network_on_held_out_frames():
    held_out, tested = (0.9, 0.95, 0.92, 0.97, 0.97, 0.96), (0.99, 0.5, 0.6, 0.7, 0.8, 0.9)
    fired = (0.1, 0.1, 0.1, 0.2, 0.1, 0.1)
    found = best_remedies([
        remedy(variant, measured(held, ann=0.98), measured(accuracy, spikes))
        for variant, held, accuracy, spikes in zip(VARIANTS, held_out, tested, fired, strict=True)
    ])
    assert [(each.network, each.remedy) for each in found] == [(variant.network, variant.remedy) for variant in VARIANTS]
    # Of two that are as accurate the one that fires less; what the other frames say has no part in it.
    assert [each.chosen for each in found] == [False, True, False, False, True, False]
    assert (found[1].accuracy, found[1].accuracy_held_out, found[1].accuracy_ann) == (0.5, 0.95, 0.99)
    row = row_of(VARIANTS[4], measured(0.8))
    assert (row.network, row.setting) == ("first-spike-two-layer.npz", "dynamic threshold")
    assert (row.accuracy_snn, row.accuracy_ann, row.spikes_per_neuron, row.spikes_per_neuron_whole) == (0.8, 0.99, 0.1, 0.2)
    assert (row.neurons, row.synapses, row.accumulations_per_frame) == (100, 500, 70)
