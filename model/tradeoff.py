"""The trade-off that `python -m model.train --sparse` chooses a point of: accuracy against spikes, and weight bits.

From one start, short fine-tunings at several prices of an event, and at several widths of the weights. All accuracies are
of the integer network, by spike count, on the training frames that are held out for validation.
"""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.importers.onnx import import_onnx
from model.network import Network
from model.reports.html import PLOTS
from model.support.cache import kept
from model.support.cli import command
from model.support.datasets import DATASETS, Dataset, load
from model.support.errors import Exit, fail
from model.training.common import ZOO, held_out, import_torch, keep_memory
from model.training.paper_network import export_onnx, load_network
from model.training.sparse import SparseSettings, fine_tune, measure

__all__ = ["point", "tradeoff_plot"]

_CALIBRATED = 3000


def point(settings: SparseSettings, start: Path, dataset: Dataset, folder: Path) -> dict[str, Any]:
    """One fine-tuned network: its settings and what `model.training.sparse.measure` finds on the held-out frames.

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
        part.write_text(json.dumps(asdict(settings) | measure(found, dataset.images[held], dataset.labels[held])))

    return json.loads(kept(folder / f"{digest.hexdigest()[:24]}.json", make).read_text())  # type: ignore[no-any-return]


def tradeoff_plot(found: dict[str, Any]) -> Figure:
    """Accuracy against spikes a neuron, against accumulations, and against weight bits."""
    with mpl.rc_context(PLOTS):
        figure = Figure(figsize=(9.5, 3.4))
        by_spikes, by_work, by_bits = figure.subplots(1, 3, sharey=True)
        prices = sorted(found["prices"], key=lambda row: row["spikes_per_neuron"])
        for axes, key, scale, title in (
            (by_spikes, "spikes_per_neuron", 1, "spikes a neuron a frame"),
            (by_work, "accumulations_per_frame", 1000, "thousand accumulations a frame"),
        ):
            axes.plot([r[key] / scale for r in prices], [100 * r["accuracy_snn"] for r in prices], marker="o", color="#2463a8")
            for row in prices:
                axes.annotate(
                    f"{row['event_price']:g}",
                    (row[key] / scale, 100 * row["accuracy_snn"]),
                    xytext=(4, -12),
                    textcoords="offset points",
                    fontsize=9,
                    color="#55616d",
                )
            for name, row in found["bundled"].items():
                axes.plot(row[key] / scale, 100 * row["accuracy_snn"], marker="*", markersize=11, linestyle="", label=name)
            axes.set_xlabel(title, fontsize=10)
        by_spikes.legend(fontsize=9, frameon=False, loc="lower right")
        bits = sorted(found["bits"], key=lambda row: row["weight_bits"])
        widths = [row["weight_bits"] for row in bits]
        by_bits.plot(widths, [100 * row["accuracy_snn"] for row in bits], marker="o", color="#c8641b")
        by_bits.set_xticks(widths)
        by_bits.set_xlabel("weight bits", fontsize=10)
        by_spikes.set_ylabel("accuracy by spike count, %")
        figure.tight_layout()
    return figure


def _numbers(kind: type) -> Any:
    def parse(context: click.Context, parameter: click.Parameter, value: str) -> list[Any]:
        try:
            return [kind(text) for text in value.split(",")]
        except ValueError:
            raise click.BadParameter(f"must be numbers with commas between, not {value!r}") from None

    return parse


@command()
@click.option("--start", type=click.Path(path_type=Path), default=ZOO / "mnist-sparse.onnx", help="A network of --sparse.")
@click.option("--prices", default="0.3,1.3,4,12,40", show_default=True, callback=_numbers(float), help="Prices of an event.")
@click.option("--bits", default="8,6,5,4", show_default=True, callback=_numbers(int), help="Widths of the weights.")
@click.option("--price", default=SparseSettings.event_price, show_default=True, help="Price of an event for --bits.")
@click.option("--epochs", default=1, show_default=True, type=click.IntRange(1), help="Passes over the frames, a point.")
@click.option("--dataset", "name", type=click.Choice(DATASETS), default="mnist", show_default=True, help="Training frames.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="First folder to look for the MNIST files in.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/tradeoff"), show_default=True, help="Folder.")
@click.option("--docs", type=click.Path(path_type=Path), help="Folder for the plot, tradeoff.svg, besides.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    start: Path,
    prices: list[float],
    bits: list[int],
    price: float,
    epochs: int,
    name: str,
    data_dir: Path | None,
    out: Path,
    docs: Path | None,
    as_json: bool,
) -> None:
    """Fine-tune at several prices of an event and several weight widths; show accuracy against spikes.

    About two minutes a point on one processor core; points are kept, and made once.
    """
    console = Console(stderr=True)
    common = SparseSettings(epochs=epochs, event_price=price, moments=6, learning_rate=5e-4, keep_thresholds=True)
    wanted = {
        "prices": [replace(common, event_price=value) for value in prices],
        "bits": [replace(common, weight_bits=value) for value in bits],
    }
    import_torch().set_num_threads(1)
    keep_memory()
    dataset = load(name, "train", data_dir)
    held = held_out(dataset)
    load_network(start)
    found: dict[str, Any] = {"dataset": dataset.name, "frames_validation": int(held.sum()), "start": start.name}
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("points", total=len(prices) + len(bits))
        for what, points in wanted.items():
            found[what] = []
            for settings in points:
                found[what].append(point(settings, start, dataset, out / "points"))
                bar.advance(task)
                if not console.is_terminal:
                    click.echo(f"{what}: {json.dumps(found[what][-1])}", err=True)
    found["bundled"] = {
        name: measure(Network.load(ZOO / f"{name}.npz"), dataset.images[held], dataset.labels[held])
        for name in ("mnist-paper", "mnist-sparse")
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = out / "tradeoff.json.part"
        part.write_text(json.dumps(found, indent=2) + "\n")
        part.replace(out / "tradeoff.json")
        for folder in (out, docs):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                with mpl.rc_context(PLOTS):
                    tradeoff_plot(found).savefig(folder / "tradeoff.svg", bbox_inches="tight", metadata={"Date": None})
    except OSError as error:
        fail(Exit.BAD_INPUT, f"{error.filename}: cannot be written: {error.strerror}")
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = Table(title=f"{found['frames_validation']:,} held-out frames of {dataset.name}")
    for title in ("price", "bits", "accuracy", "spikes a neuron", "accumulations"):
        table.add_column(title, justify="right")
    for row in (*found["prices"], *found["bits"]):
        table.add_row(
            f"{row['event_price']:g}",
            str(row["weight_bits"]),
            f"{row['accuracy_snn']:.2%}",
            f"{row['spikes_per_neuron']:.4f}",
            f"{row['accumulations_per_frame']:,}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
