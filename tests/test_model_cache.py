"""What is kept is made once, whole or not at all, also by several at the same time."""

import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from model.cache import kept


def make_slowly(path: Path) -> str:
    def make(part: Path) -> None:
        with (path.parent / "made").open("a") as made:
            made.write("x")
        part.write_text("half")
        time.sleep(0.3)
        part.write_text("whole")

    return kept(path, make).read_text()


def test_several_at_once_make_it_once(tmp_path):
    with ProcessPoolExecutor(4) as pool:
        assert list(pool.map(make_slowly, [tmp_path / "new" / "file"] * 4)) == ["whole"] * 4
    assert (tmp_path / "new" / "made").read_text() == "x"


def test_what_fails_leaves_nothing(tmp_path):
    def fail(part: Path) -> None:
        part.write_text("half")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match=r"^no more$"):
        kept(tmp_path / "file", fail)
    assert not (tmp_path / "file").exists()
    assert kept(tmp_path / "file", lambda part: part.write_text("whole")).read_text() == "whole"
