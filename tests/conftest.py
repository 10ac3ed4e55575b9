"""Tests do not depend on those before them; where they must not skip, a skip is a failure; Amaranth's warning is silenced.

Python looks for cycles of garbage less often: that takes a third of the time in which Amaranth builds a machine.
"""

import gc
import os
import warnings

import numpy as np
import pytest
from amaranth.hdl import UnusedElaboratable

warnings.simplefilter("ignore", UnusedElaboratable)
gc.set_threshold(50_000, 20, 100)


def pytest_collection_finish():
    """What was imported stays: it need not be looked at again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def chance_anew(request):
    """Generators of a test's module start anew: what a test draws does not depend on which tests ran before it."""
    for generator in vars(request.module).values():
        if isinstance(generator, np.random.Generator):
            made = generator.bit_generator
            made.state = type(made)(made.seed_seq).state


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("TALLY_TESTS_MUST_NOT_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"must not skip here: {report.longrepr}"
    return report
