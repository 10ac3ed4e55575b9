"""What of an ONNX file converts, what does not, why, and what could be done."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from model.errors import Exit, fail, one_line_errors
from model.onnx_import import ConversionError, import_onnx, report_nodes

__all__: list[str] = []


@click.command(help="Say of each node of an ONNX file what becomes of it, or why it does not convert and what to do.")
@click.argument("onnx_file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(onnx_file: Path, as_json: bool) -> None:
    """See the help text above."""
    with one_line_errors({ConversionError: Exit.BAD_INPUT}):
        reports = report_nodes(onnx_file)
    problem = None
    try:
        import_onnx(onnx_file)
    except ConversionError as error:
        problem = str(error)
    if as_json:
        nodes = [
            {"node": report.name, "operator": report.operator, "supported": report.supported, "what": report.what}
            for report in reports
        ]
        print(json.dumps({"file": str(onnx_file), "converts": problem is None, "error": problem, "nodes": nodes}, indent=2))
    else:
        table = Table(title=str(onnx_file))
        for column in ("node", "operator", "", "what becomes of it, or what to do"):
            table.add_column(column, overflow="fold")
        for report in reports:
            table.add_row(report.name, report.operator, "yes" if report.supported else "NO", report.what)
        console = Console()
        console.print(table)
        if problem is None:
            console.print("converts")
    if problem is not None:
        fail(Exit.BAD_INPUT, problem)


if __name__ == "__main__":
    main()
