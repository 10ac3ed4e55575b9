"""Names that command a shell, a page, a terminal or a tool, in every kind of file: outputs show them as text, or not at all."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from boards.build_report import _as_text
from boards.demo import _draw
from boards.demo_server import Demo
from boards.frames import Frames
from hw.flow.verilog import to_verilog
from hw.machines import machine_of
from model.check import main as check
from model.conversion.quantize import Settings, quantize
from model.images import main as images_of
from model.importers.onnx import import_onnx
from model.machine.named_plans import named_plan
from model.network import Network
from model.reports.html import Picture, Table, page
from model.support.cli import make_console
from model.support.datasets import load
from model.support.names import is_layer_name, is_printable, is_safe_name, printable, safe_name
from tests.onnx_graphs import Graph

HOSTILE = (
    "<script>alert(1)</script>",
    '"; touch pwned; "',
    "../../x",
    "\x1b]0;own\x07\x1b[2J",
    "a\nb\r\n; touch pwned",
    "$(touch pwned)`touch pwned`",
    "\u202eevil\u2028",
    "m; endmodule module n; initial $system(1);",
    "{{ 7 * 7 }} [bold]x[/bold] | *x* $x^2$ %s {0}",
    "x" * 5000,
)
FILE = '<script>\x1b[2J\n"; $(touch pwned) [red]'
"""The name of a file, but for its ending."""

SHAPE = (6, 6, 1)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(52, 256, (12, *SHAPE), dtype=np.uint8)
LABELS = np.arange(12) % len(HOSTILE)


class Page(HTMLParser):
    """Of a page the elements, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


def assert_plain(text):
    """Nothing in a text commands a terminal."""
    assert [c for c in text if not c.isprintable() and c != "\n"] == []


def run(command, *arguments):
    found = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert found.exit_code == 0, (found.stderr, found.exception)
    assert_plain(found.stdout + found.stderr)
    return found.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An ONNX file of hostile names, in file and graph, the network that it becomes, and a data set."""
    found = tmp_path_factory.mktemp("hostile")
    names = iter(HOSTILE)
    graph = Graph(shape=("frames", 1, 6, 6))
    for outputs, inputs, kernel in ((2, 1, 3), (2, 2, 3), (3, 2, 1), (2, 3, 1)):
        graph.conv(outputs, inputs, kernel, name=next(names)).add("Relu", name=next(names))
    graph.add("Flatten", name=next(names)).linear(8, 10)
    graph.nodes[-1].name = next(names)
    graph.save(found / f"{FILE}.onnx")
    np.savez(found / f"{FILE}.npz", images=IMAGES, labels=LABELS, classes=np.array(HOSTILE))
    floats = import_onnx(found / f"{FILE}.onnx")
    quantize(floats, [1.0] * len(floats.layers), Settings(), name=safe_name(FILE), origin=printable(FILE)).save(found / "net.npz")
    return found


def test_names_of_a_network(folder):
    network = Network.load(folder / "net.npz")
    assert is_safe_name(network.name) and is_printable(network.origin)
    assert [is_layer_name(layer.name) for layer in network.layers] == [True] * len(network.layers)


def test_hardware(folder):
    """Nothing but identifiers, and the words of the language."""
    network = Network.load(folder / "net.npz")
    text = to_verilog(machine_of(network, named_plan(network, "minimal")), "machine")
    assert text.isascii() and re.findall(r"</?script|touch pwned|\$system|initial \$|endmodule module|`", text) == []
    assert set(re.findall(r"^module ([^\s(]+)", text, re.MULTILINE)) >= {"machine"}
    # Escaped identifiers end at a space, and hold nothing that was not an identifier.
    assert [name for name in re.findall(r"\\(\S+)", text) if not re.fullmatch(r"[\w.$\[\]:]+", name)] == []


def test_a_command_that_tells_of_every_node(folder):
    before = sorted(path.name for path in folder.iterdir())
    for options in ([], ["--json"]):
        assert "converts" in run(check, folder / f"{FILE}.onnx", *options)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_page():
    """Of pages made of results there are tests beside the pages; this is the template of all."""
    table = Table(HOSTILE, [HOSTILE])
    shown = Page(page("estimate.html", title=HOSTILE[0], summary=table, cores=table, blocks=table, considered=table, energy=table,
                      not_included=HOSTILE[0], timeline=Picture("data:,", HOSTILE[0])))  # fmt: skip
    assert not shown.tags & {"script", "iframe", "link", "object"}
    assert all(shown.text.count(name) >= 8 for name in HOSTILE[:3])


def test_a_data_set(folder, capsys):
    """The classes' names reach the demo's page as JSON, and its terminal."""
    data = load(str(folder / f"{FILE}.npz"), "test")
    assert is_printable(data.name) and [name for name in data.classes if not is_printable(name)] == []
    network = Network.load(folder / "net.npz")
    frames = Frames(data.images, data.labels, data.name, data.classes)
    demo = Demo(network, named_plan(network, "minimal"), None, 1e6, "none", frames)
    assert demo.about["class_names"] == list(data.classes)
    found = {"counts": [1] * 10, "answer": 3, "cycles": 1, "microseconds": 1.0, "spikes": 1, "accumulations": 1, "early": 1}
    _draw(demo, make_console(), demo.frame(3), {**found, "equal": True, "input": {"address": []}})
    assert_plain(capsys.readouterr().out)


def test_folders_of_images(tmp_path):
    classes = [name for name in HOSTILE if "/" not in name and len(name) < 200]
    for name in classes:
        (tmp_path / FILE / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / FILE / name / f"{number}.png")
    run(images_of, tmp_path / FILE, "--out", tmp_path / "data.npz", "--size", "4")
    assert len(load(str(tmp_path / "data.npz"), "test").classes) == len(classes)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_in_markdown(name):
    """No element, link, column or emphasis begins in what a report quotes."""
    assert re.findall(r"(?<!\\)[`*<>\[\]|&]", _as_text(name)) == []
