"""Files that are written whole or not at all, and JSON that says one thing."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import model
from model.support.errors import BadInputError, OutputError, one_line_errors
from model.support.files import (
    check_room,
    checked_json,
    naming,
    not_written,
    opened,
    read_sealed,
    replacing,
    write_all,
    write_file,
    write_sealed,
)


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_file(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    write_file(path, b"\0")
    assert path.read_bytes() == b"\0"
    assert os.listdir(path.parent) == ["b.txt"]


def test_what_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "b.txt"
    write_file(path, "old")

    def write_some():
        with replacing(path) as part:
            part.write_text("new, but not all of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_some()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["b.txt"]


def test_two_writers_do_not_mix(tmp_path):
    path = tmp_path / "b.txt"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["b.txt"]


def test_as_readable_as_any_other_file(tmp_path):
    (tmp_path / "other").write_text("")
    write_file(tmp_path / "own", "")
    assert (tmp_path / "own").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_is_not_written_replaces_nothing(tmp_path):
    write_file(tmp_path / "b.txt", "old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "b.txt"):
        pass
    assert (tmp_path / "b.txt").read_text() == "old"


def test_several_files(tmp_path):
    write_all(tmp_path / "new", {"a": "1", "b": b"2"})
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == {"a": "1", "b": "2"}


def test_where_it_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        write_file(tmp_path / "file" / "below", "")
    with pytest.raises(BadInputError, match=f"^{re.escape(f'{tmp_path}/file: cannot be written: File exists')}$"):
        write_all(tmp_path / "file", {"a": ""})


def test_the_longest_name_and_half_a_letter(tmp_path):
    path = tmp_path / ("\U0001f600" * 62 + ".npz")
    write_file(path, "half: \udcff")
    assert path.read_text() == "half: ?"


def test_no_room_names_the_file(tmp_path):
    path = tmp_path / "net.npz"
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOSPC))) as caught, replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(path)
    with pytest.raises(OutputError, match=f"^{re.escape(f'{path}: cannot be written: No space left on device')}$"):
        not_written(path, caught.value)
    assert os.listdir(tmp_path) == []


def test_only_files_are_read(tmp_path):
    (tmp_path / "file").write_text("text")
    with opened(tmp_path / "file") as file:
        assert file.read() == b"text"
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "pipe", "must be a file, not a pipe"), ("/dev/zero", "must be a file, not a device"),
                      (tmp_path, "Is a directory"), (tmp_path / "none", "No such file or directory")):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - compared below
            opened(path)
        assert (str(caught.value.filename), caught.value.strerror) == (str(path), why)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1, "a": 2}', "field 'a' must not be there twice"),
        (b'{"x": {"b": 1, "a": 1, "b": 1}}', "field 'b' must not be there twice"),
        (b"[" * 100_000, "must not be nested so deeply"),
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_json_that_says_one_thing(text, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared below
        checked_json(text)
    assert str(caught.value) == message


def test_json():
    assert checked_json('{"a": [1, 2.5, "é", null, true]}'.encode()) == {"a": [1, 2.5, "é", None, True]}


def test_room_is_tried(tmp_path):
    check_room(tmp_path / "file")
    assert os.listdir(tmp_path) == []
    # As where the disk is full, but for this one process.
    script = (
        "import resource; from pathlib import Path; from model.support.errors import one_line_errors\n"
        "from model.support.files import check_room; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with one_line_errors(): check_room(Path('file'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(model.__path__[0]).parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (9, "error: file: cannot be written: File too large\n")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_has_its_exit_code_and_names_the_file(tmp_path, capsys):
    for error, code, message in (
        (OSError(errno.ENOSPC, "No space left on device"), 9, "log: cannot be written: No space left on device"),
        (OSError(errno.EDQUOT, "Quota exceeded", "other"), 9, "other: cannot be written: Quota exceeded"),
        (OSError(errno.EROFS, "Read-only file system", "other"), 2, "other: Read-only file system"),
    ):
        with pytest.raises(SystemExit) as caught, one_line_errors(), naming(Path("log")):
            raise error
        assert (caught.value.code, capsys.readouterr().err) == (code, f"error: {message}\n")


def test_a_sealed_file_is_as_it_was_written(tmp_path):
    path = tmp_path / "file"
    write_sealed(path, b"content")
    assert read_sealed(path) == b"content"
    content = path.read_bytes()
    for place in range(len(content)):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: must be as it was written$"):
                read_sealed(path)
