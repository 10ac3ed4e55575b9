"""What the paper says: its Table I as printed, and the figures of its text (Yousefzadeh et al. 2019)."""

from dataclasses import dataclass

__all__ = ["CLAIMED_ACCUMULATIONS", "MACS_AS_PRINTED", "SPIKES", "TABLE_ONE", "PublishedRow"]

SPIKES = 0.25
"""Spikes a neuron a frame, at threshold 1.0."""

CLAIMED_ACCUMULATIONS = 600_000
"""Fewer than these, the text says, are needed for the float network's accuracy."""

MACS_AS_PRINTED = 28 * 28 * 16 * 5 * 5 + 14 * 14 * 8 * 5 * 5 + 256 * 7 * 7 * 8 + 10 * 256
"""Multiply-accumulates of the float network by the paper's footnote 10, which leaves out the second layer's input channels.
Twice as many operations, its text says, as a multiplication counts as one accumulation more."""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A row of Table I, as printed; empty where the paper has a dash.

    Parameters
    ----------
    key : str
        Short name of the row.
    title, model : str
        The method with its number in the paper's references, and the network.
    ann, qann, snn : str
        Accuracies: float, quantized and spiking.
    neurons, synapses, spikes : str
        How many of them, and spikes a neuron a frame.
    """

    key: str
    title: str
    model: str
    ann: str = ""
    qann: str = ""
    snn: str
    neurons: str
    synapses: str
    spikes: str = ""


def _row(
    key: str, title: str, model: str, ann: str, qann: str, snn: str, neurons: str, synapses: str, spikes: str
) -> PublishedRow:
    return PublishedRow(
        key=key, title=title, model=model, ann=ann, qann=qann, snn=snn, neurons=neurons, synapses=synapses, spikes=spikes
    )


_OURS = "2xConv-2xFC"

TABLE_ONE = (
    _row("thr 1.0", "this work, threshold 1.0", _OURS, "99.21 %", "98.81 %", "99.19 %", "15k", "100k", "0.25"),
    _row("thr 2.0", "this work, threshold 2.0", _OURS, "99.21 %", "96.44 %", "97.26 %", "15k", "100k", "0.08"),
    _row("[9] 25", "[9] rate code, reproduced, 25 time steps", _OURS, "99.21 %", "", "99.18 %", "15k", "100k", "0.48"),
    _row("[9] 15", "[9] rate code, reproduced, 15 time steps", _OURS, "99.21 %", "", "98.80 %", "15k", "100k", "0.26"),
    _row("[12] conv", "[12] temporal code", "3xConv-2xFC", "98.96 %", "", "98.57 %", "7.7k", "1.2M", "0.13"),
    _row("[12] fc", "[12] temporal code", "2xFC", "98.50 %", "", "98.35 %", "1.4k", "476k", "0.07"),
    _row("[22]", "[22] temporal code", "2xFC", "98.50 %", "", "96.98 %", "1.4k", "476k", "0.10"),
    _row("[23]", "[23] rate code", "2xConv-1xFC", "99.14 %", "", "99.1 %", "5.1k", "50k", "19.25"),
    _row("[9]", "[9] rate code", "", "99.44 %", "", "99.44 %", "8k", "1.2M", ""),
    _row("[24]", "[24] rate code", "1xConv-1xFC", "98.3 %", "", "98.32 %", "9.5k", "88k", ""),
    _row("[25]", "[25] rate code", "2xConv-2xFC", "", "", "99.42 %", "20.7k", "0.6M", ""),
    _row("[14]", "[14] temporal code", "2xFC", "", "", "97.55 %", "1.5k", "635k", ""),
)
"""The paper's Table I."""
