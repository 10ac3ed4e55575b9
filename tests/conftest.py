"""Where tests must not skip, a skip is a failure; and Amaranth need not be told which components are only read."""

import os
import warnings

import pytest
from amaranth.hdl import UnusedElaboratable

warnings.simplefilter("ignore", UnusedElaboratable)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("TALLY_TESTS_MUST_NOT_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"must not skip here: {report.longrepr}"
    return report
