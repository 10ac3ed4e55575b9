"""Lines and branches that are never reached, of a module in which some are planted."""

import importlib.util
import textwrap

import pytest

from sim.elaboration.measuring import measured

PLANTED = textwrap.dedent(
    '''
    LOUD = True


    class Part:
        """Has a width."""

        def __init__(self, width):
            if width < 1:
                message = "width must be at least 1"
                raise ValueError(message)
            self._width = width

        @property
        def width(self):
            """Given back."""
            return self._width

        @property
        def twice(self):
            return 2 * self._width

        def build(self):
            if self._width > 4:
                found = "wide"
            else:
                found = "narrow"
            for _ in range(self._width):
                found += "."
            return found


    def chosen(name):
        for known in ("one", "two"):
            if known == name:
                return known
        raise KeyError(name)


    def dead():
        def inside():
            return 3
        return inside()
    '''
)


@pytest.fixture
def planted(tmp_path):
    """A folder with the module, and one that nothing imports; and the module itself."""
    folder = tmp_path / "planted"
    folder.mkdir()
    (folder / "parts.py").write_text(PLANTED)
    (folder / "unused.py").write_text("ALL = 1\n\n\ndef lonely():\n    return ALL\n")
    (folder / "constants.py").write_text("ALL = 1\n")
    spec = importlib.util.spec_from_file_location("planted_parts", folder / "parts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return folder, module


def found_in(folder, work, **options):
    return {module.name: module for module in measured(work, root=folder.parent, folders=[folder], **options)}


def holes(module):
    return [(hole.function, hole.text, hole.branch) for hole in module.holes]


def test_what_never_runs_is_found(planted):
    folder, parts = planted
    modules = found_in(folder, lambda: (parts.Part(2).build(), parts.chosen("two")))
    assert list(modules) == ["planted/parts.py", "planted/unused.py"]
    assert holes(modules["planted/parts.py"]) == [
        ("Part.twice", "return 2 * self._width", False),
        ("Part.build", "if self._width > 4:", True),
        ("Part.build", 'found = "wide"', False),
        ("dead", "def inside():", False),
        ("dead", "return inside()", False),
        ("dead.inside", "return 3", False),
    ]
    assert holes(modules["planted/unused.py"]) == [("lonely", "return ALL", False)]


def test_what_runs_is_no_hole(planted):
    """Nor is what gives a parameter back, nor a refusal."""
    folder, parts = planted

    def work():
        assert parts.Part(2).build() == "narrow.." and parts.Part(5).build() == "wide....."
        assert parts.Part(3).twice == 6 and parts.chosen("two") == "two" and parts.dead() == 3

    module = found_in(folder, work)["planted/parts.py"]
    assert module.holes == ()
    # Two lines of one refusal, and the one at the end of what looks a name up.
    assert (module.lines, module.reached, module.refusals) == (18, 15, 3)
    assert (module.branches, module.missed) == (8, 0)


def test_a_refusal_that_runs_is_reached(planted):
    folder, parts = planted

    def work():
        with pytest.raises(ValueError, match=r"^width must be at least 1$"):
            parts.Part(0)

    module = found_in(folder, work)["planted/parts.py"]
    assert module.refusals == 1
    # Here it is the other way that is missed.
    assert [hole.text for hole in module.holes if hole.function == "Part.__init__"] == ["if width < 1:", "self._width = width"]


def test_what_is_not_asked_for_is_left_out(planted):
    folder, _ = planted
    modules = found_in(folder, lambda: None, wanted=lambda module, function: function.startswith("dead"))
    assert {name: (module.lines, module.reached) for name, module in modules.items()} == {"planted/parts.py": (3, 0)}


def test_a_hole_says_where_it_is(planted):
    folder, parts = planted
    (branch,) = [hole for hole in found_in(folder, parts.Part(2).build)["planted/parts.py"].holes if hole.branch]
    lines = PLANTED.splitlines()
    line = lines.index("        if self._width > 4:") + 1
    assert str(branch) == f"planted/parts.py:{line}: Part.build: if self._width > 4: (never to line {line + 1})"
    assert branch.place == "planted/parts.py: Part.build: if self._width > 4:"
