"""Tables as Markdown, and their place in a page."""

import pytest

from model.reports.markdown import markdown, page_to_fill, with_table
from model.support.errors import BadInputError


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


def test_a_page_is_asked_for_its_places_before_the_work(tmp_path):
    page = tmp_path / "page.md"
    with pytest.raises(BadInputError, match=r"page\.md: cannot be read: No such file or directory$"):
        page_to_fill(page, ["one"])
    page.write_text("a\n<!-- table one -->\n<!-- end -->\n")
    assert page_to_fill(page, ["one"]) == page.read_text()
    with pytest.raises(BadInputError, match=r"page\.md: the page must have one <!-- table two --> with .* not 0$"):
        page_to_fill(page, ["one", "two"])
    page.write_bytes(b"\xff")
    with pytest.raises(BadInputError, match=r"page\.md: 'utf-8' codec can't decode"):
        page_to_fill(page, [])
