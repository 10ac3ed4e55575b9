"""What is kept is made once, whole or not at all, also by several at the same time, and again where it is damaged."""

import errno
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import boards
import hw
import model
import model.support.cache
import sim
from hw.flow import verilog
from model.support.cache import kept, source_hash


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


@pytest.mark.parametrize("package", [model, hw, sim, boards], ids=lambda package: package.__name__)
def test_an_edit_anywhere_below_changes_the_key(package, tmp_path):
    """Of each source of the package in turn, and of one that is added, moved or renamed."""
    folder = tmp_path / package.__name__
    shutil.copytree(package.__path__[0], folder, ignore=shutil.ignore_patterns("zoo", "__pycache__"))
    before = source_hash(folder)
    assert source_hash(Path(package.__path__[0])) == before
    sources = [path for path in folder.rglob("*") if path.suffix in (".py", ".v", ".j2", ".cpp")]
    assert len(sources) > 4
    for path in sources:
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        assert source_hash(folder) != before, path
        path.write_bytes(content)
    assert source_hash(folder) == before
    (folder / "deep" / "deeper").mkdir(parents=True)
    (added := folder / "deep" / "deeper" / "new.py").write_text("")
    assert (with_it := source_hash(folder)) != before
    moved = added.rename(folder / "deep" / "new.py")
    assert source_hash(folder) not in (before, with_it)
    moved.unlink()
    assert source_hash(folder) == before


def test_the_key_of_verilog_follows_a_nested_edit(tmp_path, monkeypatch):
    """What keeps Verilog reads the packages that are imported: copies of them here, one of them edited deep inside."""
    for package in (model, hw):
        folder = tmp_path / package.__name__
        shutil.copytree(package.__path__[0], folder, ignore=shutil.ignore_patterns("zoo", "__pycache__"))
        monkeypatch.setattr(package, "__path__", [str(folder)])
        (folder / "room" / "corner").mkdir(parents=True)
        (folder / "room" / "corner" / "part.py").write_text("width = 8\n")
    before = verilog.machine_sources()
    for package in ("model", "hw"):
        (tmp_path / package / "room" / "corner" / "part.py").write_text("width = 9\n")
        assert verilog.machine_sources() != before
        (tmp_path / package / "room" / "corner" / "part.py").write_text("width = 8\n")
    assert verilog.machine_sources() == before
    (tmp_path / "model" / "reports" / "page.py").write_text("title = 8\n")
    assert verilog.machine_sources() == before


def test_a_folder_without_sources_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"^{tmp_path}: must be a folder that holds sources$"):
        source_hash(tmp_path)


def test_what_only_shows_is_left_out(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "studies").mkdir()
    for name in ("reports", "studies"):
        (tmp_path / name / "page.py").write_text("1")
    before = source_hash(tmp_path, without=("reports",)), source_hash(tmp_path)
    (tmp_path / "reports" / "page.py").write_text("2")
    assert source_hash(tmp_path, without=("reports",)) == before[0]
    assert source_hash(tmp_path) != before[1]
    (tmp_path / "studies" / "page.py").write_text("2")
    assert source_hash(tmp_path, without=("reports",)) != before[0]


def cut(content):
    return content[:-1]


def emptied(content):
    return b""


def flipped(content):
    return bytes([content[0] ^ 16]) + content[1:]


@pytest.mark.parametrize("damage", [cut, emptied, flipped])
@pytest.mark.parametrize("damaged", ["file", "other", "file.sha256"])
def test_what_is_damaged_is_made_again(damage, damaged, tmp_path):
    made = []

    def make(part: Path) -> None:
        made.append(part)
        part.write_text("whole")
        (tmp_path / "other").write_text("whole, too")

    def both() -> list[str]:
        kept(tmp_path / "file", make, beside=[tmp_path / "other"])
        return [(tmp_path / name).read_text() for name in ("file", "other")]

    assert both() == both() == ["whole", "whole, too"]
    assert len(made) == 1
    (tmp_path / damaged).write_bytes(damage((tmp_path / damaged).read_bytes()))
    assert both() == both() == ["whole", "whole, too"]
    assert len(made) == 2
    (tmp_path / "other").unlink()
    assert both() == both() == ["whole", "whole, too"]
    assert len(made) == 3


def test_what_an_earlier_version_kept_stays(tmp_path):
    (tmp_path / "file").write_text("early")
    assert kept(tmp_path / "file", lambda part: part.write_text("late")).read_text() == "early"


def test_what_an_earlier_version_kept_is_made_again_without_its_other_file(tmp_path):
    def make(part: Path) -> None:
        part.write_text("late")
        (tmp_path / "other").write_text("late")

    (tmp_path / "file").write_text("early")
    assert kept(tmp_path / "file", make, beside=[tmp_path / "other"]).read_text() == "late"


def test_what_a_killed_process_left_is_no_result(tmp_path):
    """It is killed before each of the two files that it writes comes into place."""
    for whole in (0, 1):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        script = (
            "import os, sys; from pathlib import Path; from model.support.cache import kept; replace, done = Path.replace, []\n"
            "def dying(self, target):\n"
            f"    if len(done) == {whole}: os.kill(os.getpid(), 9)\n"
            "    done.append(replace(self, target))\n"
            "Path.replace = dying; kept(Path('cache/file'), lambda part: part.write_text('killed'))"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(model.__path__[0]).parent)}
        assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=False).returncode == -9
        assert not (tmp_path / "cache" / "file").exists()
        assert (tmp_path / "cache" / "file.sha256").exists() == bool(whole)
        path = kept(tmp_path / "cache" / "file", lambda part: part.write_text("second"))
        assert kept(path, lambda part: part.write_text("third")).read_text() == "second"


def test_what_had_no_room_is_not_kept(tmp_path, monkeypatch):
    """A tool may write a part of its file, and say nothing."""
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(model.support.cache, "check_room", full)
        with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/file'$"):
            kept(tmp_path / "file", lambda part: part.write_text("half"))
    assert os.listdir(tmp_path) == ["file.lock"]
    assert kept(tmp_path / "file", lambda part: part.write_text("whole")).read_text() == "whole"


def test_what_is_there_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    path = kept(tmp_path / "file", lambda part: part.write_text("whole"))
    monkeypatch.setattr(model.support.cache, "alone", None)
    assert kept(path, lambda part: part.write_text("other")).read_text() == "whole"
