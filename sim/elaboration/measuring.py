"""Lines and branches of functions that run while something is built, and those that do not.

Only what stands in functions is looked at: what stands outside of them runs at an import, which may be over. Two kinds of lines
are no holes. A *refusal* is a block that ends in a ``raise``, and a branch to one. A property that gives back what a
constructor was given stands for whoever reads it, and is left out.
"""

import ast
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.support.errors import ToolMissingError

__all__ = ["Hole", "Module", "measured"]


@dataclass(frozen=True, kw_only=True)
class Hole:
    """A line that never ran, or a line after which one way was never taken.

    Parameters
    ----------
    module, function : str
        Where: a file's path, and the function's name in it.
    line : int
        Number of the line.
    to : int or None
        Line to which the branch goes, not above 0 where it leaves the function; None where the line itself never ran.
    text : str
        The line.
    """

    module: str
    function: str
    line: int
    to: int | None
    text: str

    @property
    def place(self) -> str:
        """By what it is known however lines move: module, function, and the line's text."""
        return f"{self.module}: {self.function}: {self.text}"

    @property
    def branch(self) -> bool:
        """Whether it is a branch."""
        return self.to is not None

    def __str__(self) -> str:
        way = "" if self.to is None else f" (never to {f'line {self.to}' if self.to > 0 else 'its end'})"
        return f"{self.module}:{self.line}: {self.function}: {self.text}{way}"


@dataclass(frozen=True, kw_only=True)
class Module:
    """What ran of a module's functions.

    Parameters
    ----------
    name : str
        Path of the file.
    lines, reached, refusals : int
        Statements; those that ran; of those that did not, those of refusals.
    branches, missed : int
        Ways out of lines that have several, those to refusals apart; and those of them that were not taken.
    holes : tuple of Hole
        Lines that did not run and are no refusals, and branches that were not taken of lines that did.
    """

    name: str
    lines: int
    reached: int
    refusals: int
    branches: int
    missed: int
    holes: tuple[Hole, ...]


def measured(
    work: Callable[[], None],
    *,
    root: Path,
    folders: Iterable[Path],
    wanted: Callable[[str, str], bool] = lambda module, function: True,
) -> list[Module]:
    """What of the functions in some folders runs in ``work``.

    Parameters
    ----------
    work : Callable[[], None]
        What is called.
    root, folders : Path, Iterable[Path]
        Where names of modules begin, and folders of Python files, of which those count too that are never imported.
    wanted : Callable[[str, str], bool]
        Whether a function counts, by its module and its name; those of which none does are left out.

    Raises
    ------
    ToolMissingError
        coverage.py is not installed.
    """
    try:
        from coverage import Coverage
    except ImportError:
        raise ToolMissingError("coverage is not installed: pip install -e '.[dev]'") from None
    counter = Coverage(
        data_file=None, config_file=False, branch=True, messages=False, source=[str(folder) for folder in folders]
    )
    # Nothing may run, and what is measured may have been imported before: neither is worth a warning here.
    counter.set_option("run:disable_warnings", ["no-data-collected", "already-imported", "module-not-measured"])
    with counter.collect():
        work()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "lines.json"
        counter.json_report(outfile=str(report))
        files: dict[str, Any] = json.loads(report.read_text())["files"]
    paths = {Path(name).resolve().relative_to(root.resolve()).as_posix(): found for name, found in files.items()}
    modules = [_module(name, (root / name).read_text(), found["functions"], wanted) for name, found in sorted(paths.items())]
    return [module for module in modules if module.lines]


def _module(name: str, source: str, functions: dict[str, Any], wanted: Callable[[str, str], bool]) -> Module:
    text, tree = source.splitlines(), ast.parse(source)
    refused, given_back = _refusals(tree), _given_back(tree)
    lines = reached = refusals = branches = missed = 0
    holes: list[Hole] = []
    for function, found in functions.items():
        # What has no name is what stands outside of functions.
        if not function or not wanted(name, function):
            continue
        ran, not_run = (set(found[f"{which}_lines"]) - given_back for which in ("executed", "missing"))
        lines += len(ran | not_run)
        reached += len(ran)
        refusals += len(not_run & refused)
        ways = {
            which: [(line, to) for line, to in found[f"{which}_branches"] if to not in refused]
            for which in ("executed", "missing")
        }
        branches += sum(map(len, ways.values()))
        missed += len(ways["missing"])
        places: list[tuple[int, int | None]] = [(line, None) for line in not_run - refused]
        places += [(line, to) for line, to in ways["missing"] if line in ran]
        holes += [
            Hole(module=name, function=function, line=line, to=to, text=text[line - 1].strip())
            for line, to in sorted(places, key=lambda place: (place[0], place[1] or 0))
        ]
    return Module(
        name=name, lines=lines, reached=reached, refusals=refusals, branches=branches, missed=missed, holes=tuple(holes)
    )


def _refusals(tree: ast.AST) -> set[int]:
    """Lines of blocks that end in a ``raise``; where it ends a function, which may do more, of the ``raise`` alone."""
    found: set[int] = set()
    for node in ast.walk(tree):
        for block in (getattr(node, part, None) for part in ("body", "orelse", "finalbody")):
            if isinstance(block, list) and block and isinstance(block[-1], ast.Raise):
                last = block[-1]
                first = last if isinstance(node, ast.FunctionDef) else block[0]
                found.update(range(first.lineno, (last.end_lineno or last.lineno) + 1))
    return found


def _given_back(tree: ast.AST) -> set[int]:
    """Lines of properties that do nothing but give back what is in a private attribute."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or not any(
            isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in node.decorator_list
        ):
            continue
        statements = node.body[1:] if ast.get_docstring(node) is not None else node.body
        match statements:
            case [ast.Return(value=ast.Attribute(value=ast.Name(id="self"))) as only]:
                found.update(range(only.lineno, (only.end_lineno or only.lineno) + 1))
    return found
