"""Tables as Markdown, and their place in a page."""

import pytest

from model.reports.markdown import markdown, with_table


def test_a_table_takes_its_place_in_a_page():
    page = "a\n<!-- table one -->\nold\n<!-- end -->\nb\n<!-- table two -->\n<!-- end -->\n"
    table = markdown(("x", "y"), [("1", "2")])
    assert table == "| x | y |\n|---|---:|\n| 1 | 2 |\n"
    found = with_table(page, "one", table)
    assert found == f"a\n<!-- table one -->\n\n{table}\n<!-- end -->\nb\n<!-- table two -->\n<!-- end -->\n"
    assert with_table(found, "one", table) == found
    line = "^the page must have one <!-- table three --> with <!-- end --> after it, not 0$"
    with pytest.raises(ValueError, match=line):
        with_table(page, "three", table)
