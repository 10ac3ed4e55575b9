"""Tables as Markdown, and their place in a page."""

import pytest

from model.reports.markdown import markdown, page_to_fill, with_table, write_rows
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


def key(cell):
    return cell.removesuffix(" tuned")


def test_rows_that_are_not_written_stay(tmp_path):
    path = tmp_path / "page.md"
    table = markdown(("x", "y"), [("b", "1"), ("b tuned", "2"), ("d", "3"), ("gone", "4")])
    page = with_table("<!-- table one -->\n<!-- end -->\nmore\n", "one", table)
    new = markdown(("x", "y"), [("c", "5"), ("d", "6"), ("d tuned", "7"), ("a", "8")])
    write_rows(path, page, {"one": new}, ["a", "b", "c", "d"], key)
    merged = markdown(("x", "y"), [("a", "8"), ("b", "1"), ("b tuned", "2"), ("c", "5"), ("d", "6"), ("d tuned", "7")])
    assert path.read_text() == with_table(page, "one", merged)
    # Into a place without a table.
    write_rows(path, "<!-- table one -->\n<!-- end -->\n", {"one": table}, ["gone", "d", "b"], key)
    assert [line for line in path.read_text().splitlines() if line.startswith("|")][2:] == [
        "| gone | 4 |", "| d | 3 |", "| b | 1 |", "| b tuned | 2 |",
    ]  # fmt: skip


def test_rows_of_other_columns_cannot_stay(tmp_path):
    path = tmp_path / "page.md"
    page = with_table("<!-- table one -->\n<!-- end -->\n", "one", markdown(("x", "y"), [("a", "1"), ("b", "2")]))
    line = r"page\.md: table one has other columns than it had: rows of b must be written anew as well$"
    with pytest.raises(BadInputError, match=line):
        write_rows(path, page, {"one": markdown(("x", "z"), [("a", "3")])}, ["a", "b"], key)
    assert not path.exists()
    write_rows(path, page, {"one": markdown(("x", "z"), [("b", "3"), ("a", "4")])}, ["a", "b"], key)
    assert "| x | z |\n|---|---:|\n| a | 4 |\n| b | 3 |\n" in path.read_text()
    with pytest.raises(BadInputError, match=r"page\.md: the page must have one <!-- table two --> with .* not 0$"):
        write_rows(path, page, {"two": markdown(("x",), [("a",)])}, ["a"], key)


def test_all_rows_of_a_key_are_replaced(tmp_path):
    path = tmp_path / "page.md"
    page = with_table("<!-- table one -->\n<!-- end -->\n", "one", markdown(("x",), [("a",), ("a tuned",)]))
    write_rows(path, page, {"one": markdown(("x",), [("a",)])}, ["a"], key)
    assert "tuned" not in path.read_text()
