"""The house keeps its order: short functions, tests in the same rooms as what they test."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "hw", "sim", "boards")

MOST_LINES = 100
"""Of a function, outside tables of data."""


def sources():
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def test_no_function_is_too_long():
    found = {}
    for path in [*sources(), *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES:
                    found[f"{path.relative_to(ROOT)}: {node.name}"] = lines
    assert found == {}


def test_tests_stand_in_the_rooms_of_what_they_test():
    """A test's folder is a folder of the code."""
    rooms = {path.parent.relative_to(ROOT) for path in sources()}
    tests = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(tests) > 80
    assert [str(path) for path in tests if path.parent not in rooms and path.parent != Path(".")] == []


def test_every_room_of_the_code_has_tests():
    rooms = {path.parent.relative_to(ROOT) for path in sources() if path.name != "__init__.py"}
    tested = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert rooms - tested == set()


def test_the_door_of_each_package_is_small():
    """At a package's door stand its semantics and its commands; all else has a room."""
    doors = {package: {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"} for package in ("model", "hw")}
    assert doors["hw"] == {"aer", "neuron", "interface", "machines", "build", "area_study"}
    assert doors["model"] == {
        *("network", "projection", "events", "neuron", "rest", "golden", "encode", "arrays", "from_torch"),
        *("check", "convert", "evaluate", "estimate", "train", "finetune", "paper", "robustness", "tradeoff", "small"),
        *("suite", "two_layer", "paper_networks", "images"),
    }
