"""Tables of what was measured, and the reasons for what is not reached."""

from pathlib import Path

from sim.elaboration.argued import ARGUED, reason, unused
from sim.elaboration.measuring import Hole, Module
from sim.elaboration.table import TITLES, lines_markdown, lines_of, total

ROOT = Path(__file__).parents[3]


def hole(function, text, to=None, module="hw/parts/a.py"):
    return Hole(module=module, function=function, line=7, to=to, text=text)


MODULES = (
    Module(
        name="hw/parts/a.py", lines=1200, reached=1196, refusals=1, branches=12, missed=1,
        holes=(hole("A.f", "x = 1"), hole("A.g", "if x:", to=9), hole("A.g", "y = 2"), hole("A.g", "z = 3")),
    ),
    Module(name="hw/parts/b.py", lines=10, reached=10, refusals=0, branches=2, missed=0, holes=()),
    Module(name="hw/neuron.py", lines=20, reached=20, refusals=0, branches=4, missed=0, holes=()),
)  # fmt: skip

REASONS = {"hw/parts/a.py: A.g": "for tests", "hw/parts/a.py: A.f: x = 2": "was one once"}


def test_a_reason_is_for_a_function_or_a_line_of_it():
    assert reason(hole("A.g", "y = 2"), REASONS) == "for tests"
    assert reason(hole("A.f", "x = 1"), REASONS) is None
    assert reason(hole("A.f", "x = 2"), REASONS) == "was one once"
    assert unused(MODULES[0].holes, REASONS) == ["hw/parts/a.py: A.f: x = 2"]


def test_the_table_of_a_page():
    table = lines_markdown(MODULES, "3 machines", REASONS)
    assert table.splitlines() == [
        f"|  | {' | '.join(TITLES)} |",
        "|---|" + "---:|" * len(TITLES),
        "| `hw/parts` | 1,210 | 1,206 | 1 | 14 | 1 | 3 | 1 |",
        "| `hw` | 20 | 20 | 0 | 4 | 0 | 0 | 0 |",
        "| all | 1,230 | 1,226 | 1 | 18 | 1 | 3 | 1 |",
        "",
        "- `hw/parts/a.py`, `A.f` (1): open, line 7: `x = 1`",
        "- `hw/parts/a.py`, `A.g` (3): for tests",
        "",
        "3 machines.",
    ]


def test_the_cells_of_a_module():
    assert lines_of(MODULES[0], REASONS) == ["1,200", "1,196", "1", "12", "1", "3", "1"]
    assert total("all", MODULES).lines == 1230


def test_reasons_are_for_what_there_is():
    """The lines that they name are in the sources."""
    for place, why in ARGUED.items():
        module, function, *text = place.split(": ", 2)
        source = (ROOT / module).read_text()
        assert f"def {function.rpartition('.')[2]}(" in source, place
        assert all(line in map(str.strip, source.splitlines()) for line in text), place
        assert why.endswith(".") and len(why) > 20
