"""Trained networks from ONNX files, as a chain of float layers.

The nodes are walked from the input to the output. Convolutions, linear layers and max-pools become layers; what scales,
shifts or averages waits until it can be folded into a layer before or after it (`model.importers.folding`); transposes and
reshapes only change which address an input of a linear layer has. What does not convert is named with its node, and what does is
compared with ONNX Runtime (`model.importers.agreement`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from model.importers.agreement import check_agreement
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork
from model.importers.graph import NodeReport, OnnxGraph, damage_in_one_line, load
from model.importers.layouts import Start, starts, where
from model.importers.normalization import AS_THEY_ARE, Normalization
from model.importers.operators import SUPPORTED
from model.importers.quantized_nodes import check_levels
from model.importers.walk import Walk
from model.support.choices import LAYOUTS

__all__ = [
    "LAYOUTS",
    "SUPPORTED",
    "ConversionError",
    "Examination",
    "FloatLayer",
    "FloatNetwork",
    "NodeReport",
    "Normalization",
    "examine",
    "import_model",
    "import_onnx",
    "report_nodes",
]


@dataclass(frozen=True)
class Examination:
    """What a file is found to be.

    Parameters
    ----------
    reports : list of NodeReport
        Every node of the file, with what becomes of it, or why not and what could be done.
    network : FloatNetwork or None
        The network, where all of it converts.
    error : ConversionError or None
        The first thing that does not convert, otherwise.
    """

    reports: list[NodeReport]
    network: FloatNetwork | None
    error: ConversionError | None


def examine(
    path: Path | str,
    *,
    layout: str | None = None,
    input_shape: Sequence[int] | None = None,
    output: str | None = None,
    normalization: Normalization = AS_THEY_ARE,
) -> Examination:
    """Read an ONNX file to its end, whatever does not convert on the way.

    Parameters
    ----------
    path : Path or str
        The file.
    layout : str or None
        One of `LAYOUTS`: channels first or last, where neither the file's nodes nor the data's shape say it.
    input_shape : sequence of int or None
        Shape ``(height, width, channels)`` of the data's frames, where there are any, which decides between layouts.
    output : str or None
        The output that the network ends in; may be None where the file has only one.
    normalization : Normalization
        What the network takes in place of pixels of 0 to 1, where the file's nodes do not say it.

    Raises
    ------
    ConversionError
        The file itself is not what it must be.
    """
    path = Path(path)
    with damage_in_one_line(path):
        return _examine(OnnxGraph(path, load(path), output=output), layout, input_shape, normalization)


def report_nodes(path: Path | str, *, output: str | None = None) -> list[NodeReport]:
    """Every node of the file: the reports of `examine`."""
    return examine(path, output=output).reports


def import_onnx(
    path: Path | str,
    *,
    layout: str | None = None,
    input_shape: Sequence[int] | None = None,
    output: str | None = None,
    normalization: Normalization = AS_THEY_ARE,
) -> FloatNetwork:
    """Read an ONNX file; parameters as those of `examine`.

    Raises
    ------
    ConversionError
        One line that names the file, the node and its operator, and what could be done.
    """
    found = examine(path, layout=layout, input_shape=input_shape, output=output, normalization=normalization)
    return _network(found)


def import_model(
    model: onnx.ModelProto,
    name: str,
    *,
    layout: str | None = None,
    input_shape: Sequence[int] | None = None,
    output: str | None = None,
    normalization: Normalization = AS_THEY_ARE,
) -> FloatNetwork:
    """As `import_onnx`, of a model that is read already; ``name`` stands for the file in messages."""
    path = Path(name)
    with damage_in_one_line(path):
        return _network(_examine(OnnxGraph(path, model, output=output), layout, input_shape, normalization))


def _network(found: Examination) -> FloatNetwork:
    if found.network is None:
        assert found.error is not None
        raise found.error
    return found.network


def _examine(
    graph: OnnxGraph, layout: str | None, input_shape: Sequence[int] | None, normalization: Normalization
) -> Examination:
    """The file as it is with the one way to read its input that converts and that the data has."""
    if layout is not None and layout not in LAYOUTS:
        raise ConversionError(f"{graph.path}: layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    walks = [Walk(graph, start) for start in starts(graph, layout, input_shape, normalization)]
    good = [walk for walk in walks if walk.network is not None]
    if not good:
        # The way that gets furthest; the usual one where several do.
        best = min(walks, key=lambda walk: sum(not report.supported for report in walk.reports))
        return Examination(best.reports, None, best.error)
    chosen, error = good[0], None
    if input_shape is not None:
        shapes = list(dict.fromkeys(tuple(walk.start.shape) for walk in good))
        if tuple(input_shape) in shapes:
            chosen = next(walk for walk in good if walk.start.shape == tuple(input_shape))
        elif len(shapes) > 1:
            error = ConversionError(
                f"{where(graph)} must have the shape of the frames {tuple(input_shape)}, not {' or '.join(map(str, shapes))}"
            )
    if error is None and any(_differs(walk.start, chosen.start) for walk in good):
        dims = "x".join(map(str, chosen.start.data.dims[1:]))
        error = ConversionError(
            f"{where(graph)} of {dims} may have its channels first or last, and neither its nodes nor its shape say which; "
            f"give --layout {' or '.join(LAYOUTS)}"
        )
    if error is None:
        assert chosen.network is not None
        try:
            check_levels(chosen.network)
            check_agreement(chosen.network)
        except ConversionError as found:
            error = found
    return Examination(chosen.reports, None if error else chosen.network, error)


def _differs(start: Start, chosen: Start) -> bool:
    """Whether the same frame would be read in another order."""
    return start.shape == chosen.shape and start.data.axes != chosen.data.axes
