"""The suite's tables, as Markdown."""

from collections.abc import Sequence

from model.benchmark.peer import PeerResult
from model.benchmark.run import Spiking, SuiteResult
from model.reports.markdown import markdown

__all__ = ["name_of", "rows", "tables"]


def tables(results: Sequence[SuiteResult]) -> dict[str, str]:
    """Of each table its name in the page, and its text."""
    found = {"accuracy": _accuracy(results), "work": _work(results), "levels": _levels(results)}
    if any(spiking.peers for result in results for spiking in _spiking(result)):
        found["peer"] = _peer(results)
    return found


def rows(results: Sequence[SuiteResult]) -> list[tuple[str, ...]]:
    """A line of each network for the terminal."""
    return [
        (
            result.name,
            f"{result.accuracy_float:.2%}",
            f"{spiking.measured.accuracy:.2%}",
            f"{spiking.measured.spikes:,.0f}",
            f"{spiking.measured.accumulations:,.0f}",
            f"{result.macs:,}",
            *(_steps(peer) for peer in spiking.peers),
        )
        for result in results
        for spiking in _spiking(result)
    ]


def name_of(cell: str) -> str:
    """The network that a row is of, by its first cell."""
    return cell.split("`")[1]


def _spiking(result: SuiteResult) -> list[Spiking]:
    return [result.converted, *([result.tuned] if result.tuned else [])]


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _accuracy(results: Sequence[SuiteResult]) -> str:
    lines = []
    for result in results:
        converted, tuned = result.converted.measured, result.tuned.measured if result.tuned else None
        lines.append((
            f"`{result.name}`: {result.title}",
            f"{result.weights:,}",
            _percent(result.accuracy_float),
            _percent(converted.accuracy_quantized),
            _percent(converted.accuracy),
            f"{100 * (converted.accuracy - result.accuracy_float):+.2f}",
            _percent(tuned.accuracy) if tuned else "",
            f"{100 * (tuned.accuracy - result.accuracy_float):+.2f}" if tuned else "",
        ))
    titles = ("network", "weights", "float", "quantized", "spiking", "difference", "fine-tuned", "difference")
    return markdown(titles, lines)


def _work(results: Sequence[SuiteResult]) -> str:
    lines = []
    for result in results:
        for spiking in _spiking(result):
            measured = spiking.measured
            lines.append((
                f"`{result.name}`" + (", fine-tuned" if spiking is result.tuned else ""),
                f"{measured.neurons:,}",
                f"{measured.input_events:,.0f}",
                f"{measured.hidden_spikes:,.0f}",
                f"{measured.output_spikes:,.0f}",
                f"{measured.spikes_per_neuron:.3f}",
                f"{measured.accumulations:,.0f}",
                f"{result.macs:,}",
                f"{measured.accumulations / result.macs:.2f}",
            ))
    titles = (
        "network", "neurons", "spikes of pixels", "of hidden neurons", "of outputs", "per neuron", "accumulations", "MACs, float",
        "ratio",
    )
    return markdown(titles, lines)


def _levels(results: Sequence[SuiteResult]) -> str:
    lines = []
    for result in results:
        for spiking in _spiking(result):
            counts = [str(layer.greatest_count) for layer in spiking.measured.layers if layer.kind != "maxpool"]
            chosen = ", ".join(f"{levels:.3g}" for levels in spiking.levels.values())
            name = f"`{result.name}`" + (", fine-tuned" if spiking is result.tuned else "")
            lines.append((name, str(spiking.input_levels), chosen, ", ".join(counts)))
    return markdown(("network", "levels of a pixel", "levels of each layer, as chosen", "greatest count of each layer"), lines)


def _steps(peer: PeerResult) -> str:
    point = peer.reached or peer.best
    return f"{point.spikes:,.0f} in {point.steps}" + ("" if peer.reached else f": {_percent(point.accuracy)} at best")


def _peer(results: Sequence[SuiteResult]) -> str:
    lines = []
    for result in results:
        for spiking in _spiking(result):
            ours = spiking.beside_peer
            if ours is None:
                continue
            cells = [
                f"`{result.name}`" + (", fine-tuned" if spiking is result.tuned else ""),
                _percent(ours.accuracy),
                f"{ours.spikes:,.0f}",
                f"{ours.input_events:,.0f} + {ours.hidden_spikes:,.0f} + {ours.output_spikes:,.0f}",
                f"{ours.sent:,.0f}",
            ]
            for peer in spiking.peers:
                point = peer.reached or peer.best
                cells += [
                    f"{point.spikes:,.0f}" + ("" if peer.reached else f" ({_percent(point.accuracy)} at best)"),
                    f"{point.input_spikes:,.0f} + {point.hidden_spikes:,.0f}" if point.input_spikes else "",
                    f"{point.steps}, {point.setting}",
                ]
            lines.append([cell for index, cell in enumerate(cells) if index != 9])
    titles = (
        "network", "accuracy", "spikes", "pixels + hidden + outputs", "sent on", "peer, pixels as spikes", "pixels + hidden",
        "steps, thresholds", "peer, pixels as a current", "steps, thresholds",
    )
    return markdown(titles, lines)
