"""What of an ONNX file converts, what does not, why, and what could be done."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from model.importers.float_network import FloatNetwork, hardware_form
from model.importers.onnx import ConversionError, NodeReport, import_onnx, report_nodes
from model.support.cli import command
from model.support.errors import Exit, fail

__all__: list[str] = []

_STYLES = {"supported": "green", "folded": "cyan", "unsupported": "bold red"}


@command(help="Say of each node of an ONNX file what becomes of it, or why it does not convert and what to do.")
@click.argument("onnx_file", type=click.Path(path_type=Path))
@click.option(
    "--for-hardware",
    is_flag=True,
    help="Count as unsupported what hardware does not build; count grouped convolutions as ordinary ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(onnx_file: Path, for_hardware: bool, as_json: bool) -> None:
    """See the help text above."""
    reports = report_nodes(onnx_file, for_hardware=for_hardware)
    network, problem = None, None
    try:
        network = import_onnx(onnx_file)
        if for_hardware:
            network = hardware_form(network)
    except ConversionError as error:
        problem = str(error)
    refused = [report for report in reports if not report.supported]
    if refused:
        problem = _problem(onnx_file, refused)
    totals = _totals(network) if network is not None and problem is None else None
    if as_json:
        nodes = [
            {
                "node": report.name,
                "operator": report.operator,
                "supported": report.supported,
                "status": report.status,
                "what": report.what,
                "remedy": report.remedy,
            }
            for report in reports
        ]
        found = {"file": str(onnx_file), "converts": problem is None, "error": problem, "for_hardware": for_hardware}
        print(json.dumps({**found, "totals": totals, "nodes": nodes}, indent=2))
    else:
        console = Console()
        console.print(_table(str(onnx_file), reports))
        if totals is not None:
            console.print(
                f"converts{' for hardware' if for_hardware else ''}: {totals['layers']} layers, "
                f"{totals['neurons']:,} neurons, {totals['weights']:,} weights, "
                f"{totals['macs_per_frame']:,} MACs a frame as a float network"
            )
    if problem is not None:
        fail(Exit.BAD_INPUT, problem)


def _problem(path: Path, refused: list[NodeReport]) -> str:
    first = refused[0]
    remedy = f"; {first.remedy}" if first.remedy else ""
    more = f" (and {len(refused) - 1} more of its nodes)" if len(refused) > 1 else ""
    return f"{path}: node {first.name!r} ({first.operator}): {first.what}{remedy}{more}"


def _totals(network: FloatNetwork) -> dict[str, Any]:
    return {
        "layers": len(network.layers),
        "neurons": network.neurons,
        "weights": network.weights,
        "macs_per_frame": network.macs,
    }


def _table(title: str, reports: list[NodeReport]) -> Table:
    table = Table(title=escape(title))
    remedies = any(report.remedy for report in reports)
    for column in ("node", "operator", "status", "what becomes of it, or why not", *(["what to do"] if remedies else [])):
        table.add_column(column, overflow="fold")
    for report in reports:
        status = f"[{_STYLES[report.status]}]{report.status}[/]"
        cells = [report.what, *([report.remedy] if remedies else [])]
        table.add_row(escape(report.name), escape(report.operator), status, *map(escape, cells))
    return table


if __name__ == "__main__":
    main()
