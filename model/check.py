"""What of an ONNX file converts, what does not, why, and what could be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.importers.errors import ConversionError
from model.importers.normalization import Normalization
from model.importers.options import file_options
from model.support.cli import FilePath, command, make_console, make_table
from model.support.errors import Exit, fail, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from model.importers.float_network import FloatNetwork
    from model.importers.onnx import Examination, NodeReport

__all__: list[str] = []

_STYLES = {"supported": "green", "folded": "cyan", "unsupported": "bold red"}


@command(help="Say of each node of an ONNX file what becomes of it, or why it does not convert and what to do.")
@click.argument("onnx_file", type=FilePath())
@file_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    onnx_file: Path,
    layout: str | None,
    output: str | None,
    normalization: Normalization,
    as_json: bool,
) -> None:
    """See the help text above."""
    from model.conversion.from_quantized import quantized_lines
    from model.importers.onnx import examine

    found = examine(onnx_file, layout=layout, output=output, normalization=normalization)
    problem = _problem(onnx_file, found)
    lines: list[str] = []
    if found.network is not None and found.network.quantized:
        try:
            lines = quantized_lines(found.network)
        except ConversionError as error:
            problem = str(error)
    totals = _totals(found.network) if found.network is not None else None
    if as_json:
        result = {"file": str(onnx_file), "converts": problem is None, "error": problem}
        print(json.dumps({**result, "totals": totals, "nodes": [_as_json(report) for report in found.reports]}, indent=2))
    else:
        console = make_console()
        console.print(_table(one_line(str(onnx_file)), found.reports))
        if totals is not None and problem is None:
            console.print(
                f"converts: {totals['layers']} layers, "
                f"{totals['neurons']:,} neurons, {totals['weights']:,} weights, "
                f"{totals['macs_per_frame']:,} MACs per frame as a float network"
            )
        if lines:
            console.print("\n".join(lines))
    if problem is not None:
        fail(Exit.BAD_INPUT, problem)


def _problem(path: Path, found: Examination) -> str | None:
    """Why it does not convert, in one line; None where it does."""
    refused = [report for report in found.reports if not report.supported]
    if not refused:
        return None if found.error is None else str(found.error)
    first = refused[0]
    remedy = f"; {first.remedy}" if first.remedy else ""
    more = f" (and {len(refused) - 1} more of its nodes)" if len(refused) > 1 else ""
    return f"{path}: node {first.name!r} ({first.operator}): {first.what}{remedy}{more}"


def _as_json(report: NodeReport) -> dict[str, Any]:
    return {
        "node": report.name,
        "operator": report.operator,
        "supported": report.supported,
        "status": report.status,
        "what": report.what,
        "remedy": report.remedy,
    }


def _totals(network: FloatNetwork) -> dict[str, Any]:
    return {
        "layers": len(network.layers),
        "neurons": network.neurons,
        "weights": network.weights,
        "macs_per_frame": network.macs,
    }


def _table(title: str, reports: list[NodeReport]) -> Table:
    from rich.text import Text

    table = make_table(title=title)
    remedies = any(report.remedy for report in reports)
    for column in ("node", "operator", "status", "what becomes of it, or why not", *(["what to do"] if remedies else [])):
        table.add_column(column, overflow="fold")
    for report in reports:
        status = Text(report.status, style=_STYLES[report.status])
        table.add_row(report.name, report.operator, status, report.what, *([report.remedy] if remedies else []))
    return table


if __name__ == "__main__":
    main()
