"""What all pages share: whatever text comes to a page is shown as text, and a page loads nothing."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from model.machine.estimate import estimate
from model.machine.named_plans import named_plan
from model.reports.estimate_page import estimate_page
from model.reports.evaluation_page import evaluation_page
from model.reports.html import Table, page, picture, svg
from model.reports.robustness_page import robustness_page
from model.studies.evaluation import evaluate
from model.studies.robustness import study
from model.support.datasets import Dataset
from sim.generators.networks import random_network

HOSTILE = """<script>alert(1)</script>"><img src=x onerror='alert(2)'>{{ 7 * 7 }}</title>"""


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def found():
    network = random_network(1)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (4, *network.input_shape), dtype=np.uint8)
    return network, Dataset(HOSTILE, images, rng.integers(0, network.classes, 4))


def evaluation(network, data):
    return evaluation_page(evaluate(network, data, detail=3))


def estimation(network, data):
    found, shown = estimate(network, named_plan(network, "default"), data, clock_mhz=50)
    return estimate_page(replace(found, network=HOSTILE, plan=HOSTILE), shown)


def robustness(network, data):
    return robustness_page(replace(study(network, data, trials=1, detail=2), network=HOSTILE))


@pytest.mark.parametrize("write", [evaluation, estimation, robustness])
def test_text_is_text(found, write):
    shown = Page(write(*found))
    assert "script" not in shown.tags
    assert " ".join(HOSTILE.split()) in " ".join(shown.text.split())
    assert shown.tags.count("img") == len(shown.sources) > 0
    assert all(source.startswith("data:image/svg+xml;base64,") for source in shown.sources)


def test_a_value_that_is_not_given_is_an_error():
    with pytest.raises(Exception, match=r"^'found' is undefined$"):
        page("evaluation.html", title="x", accuracies=Table(("a",), []))


def test_the_same_figure_has_the_same_bytes():
    def drawn():
        figure = Figure()
        figure.subplots().plot([1, 2, 4])
        return figure

    assert svg(drawn()) == svg(drawn())
    assert picture(drawn(), "a line").source == picture(drawn(), "a line").source
