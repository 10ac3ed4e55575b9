"""Compiled functions that are kept are those of the sources as they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import model
from model.support.compiled import compiled_folder


def test_an_edit_in_any_room_that_compiles_has_a_folder_of_its_own(tmp_path):
    package = tmp_path / "model"
    shutil.copytree(model.__path__[0], package, ignore=shutil.ignore_patterns("zoo", "__pycache__"))
    before = compiled_folder(package, tmp_path)
    for path in ("engine/kernels.py", "machine/limits.py", "machine/registers.py", "studies/rate_coded.py"):
        content = (package / path).read_text()
        (package / path).write_text(content + "\n# edited\n")
        assert compiled_folder(package, tmp_path) != before, path
        (package / path).write_text(content)
    (package / "importers" / "walk.py").write_text("")
    assert compiled_folder(package, tmp_path) == before


def test_a_function_in_another_file_is_not_an_old_one(tmp_path):
    """A package whose compiled function calls one of another file, which is then edited."""
    package = tmp_path / "model"
    shutil.copytree(model.__path__[0], package, ignore=shutil.ignore_patterns("zoo", "__pycache__"))
    (package / "engine" / "inner.py").write_text(
        "from model.support.compiled import njit\n\n@njit(cache=True)\ndef inner():\n    return 1\n"
    )
    (package / "engine" / "outer.py").write_text(
        "from model.engine.inner import inner\nfrom model.support.compiled import njit\n\n"
        "@njit(cache=True)\ndef outer():\n    return inner()\n"
    )
    assert _outer(tmp_path) == "1"
    assert _outer(tmp_path) == "1"
    inner = package / "engine" / "inner.py"
    inner.write_text(inner.read_text().replace("return 1", "return 2"))
    assert _outer(tmp_path) == "2"


def _outer(folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "kept")}
    command = [sys.executable, "-c", "from model.engine.outer import outer; print(outer())"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


_COUNTS = """
import sys
from pathlib import Path
import model.support.compiled as compiled
compiled._FOLDER = Path(sys.argv[1])
@compiled.njit(cache=True)
def twice(value):
    return 2 * value
print([twice(3), twice(1.5), sum(twice.stats.cache_hits.values())])
"""


def _twice(folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(model.__path__[0]).parent)}
    command = [sys.executable, "-c", _COUNTS, str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_what_is_damaged_is_compiled_again(tmp_path):
    assert [_twice(tmp_path), _twice(tmp_path)] == ["[6, 3.0, 0]", "[6, 3.0, 2]"]
    first, second = sorted(tmp_path.glob("*.nbc"))
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    second.write_bytes(b"")
    assert [_twice(tmp_path), _twice(tmp_path)] == ["[6, 3.0, 0]", "[6, 3.0, 2]"]
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 16
    first.write_bytes(content)
    assert [_twice(tmp_path), _twice(tmp_path)] == ["[6, 3.0, 1]", "[6, 3.0, 2]"]


def test_where_nothing_can_be_kept_it_is_compiled(tmp_path):
    (tmp_path / "file").write_text("")
    assert _twice(tmp_path / "file" / "folder") == "[6, 3.0, 0]"
