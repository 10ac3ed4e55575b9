"""Jobs: what comes of them, whatever goes wrong, and what is kept of it."""

import pytest

from model.support.errors import MismatchError, ToolError
from sim.campaigns.jobs import DIFFERS, DONE, FAILED, DifferenceError, Job, Kind, perform


def done(run, folder):
    kind = Kind(name="one", version=lambda: "1", run=run, memory_bytes=0, threads=0)
    return perform(kind, Job(kind="one", version="1", parameters={"number": 4}), folder)


def test_what_is_found(tmp_path):
    def run(parameters, folder):
        (folder / "a.txt").write_text("a")
        return {"squares": parameters["number"] ** 2}

    outcome = done(run, tmp_path)
    assert (outcome.outcome, outcome.found, outcome.message, outcome.files) == (DONE, {"squares": 16}, "", {})
    assert outcome.seconds >= 0


def raising(error):
    def run(parameters, folder):
        (folder / "deep" / "cache").mkdir(parents=True)
        (folder / "a.txt").write_text("a")
        (folder / "deep" / "b.log").write_text("b")
        (folder / "deep" / "cache" / "c.o").write_text("c")
        (folder / "large.fst").write_bytes(bytes(5 << 20))
        raise error(folder)

    return run


@pytest.mark.parametrize(
    ("error", "outcome", "found", "message"),
    [
        (lambda _: DifferenceError("2 differ\nhere", {"spikes": 9}), DIFFERS, {"spikes": 9}, "2 differ\nhere"),
        (lambda _: MismatchError("it hangs"), DIFFERS, {}, "it hangs"),
        (lambda folder: ToolError(f"it broke; see {folder}/deep/b.log"), FAILED, {}, "it broke; see deep/b.log"),
    ],
)
def test_what_goes_wrong_is_kept(error, outcome, found, message, tmp_path):
    result = done(raising(error), tmp_path)
    assert (result.outcome, result.found, result.message) == (outcome, found, message)
    # Neither what can be made again, nor what is too large.
    assert result.files == {"a.txt": b"a", "deep/b.log": b"b"}


def test_a_fault_is_kept_with_its_place(tmp_path):
    result = done(raising(lambda _: KeyError("nothing")), tmp_path)
    assert (result.outcome, result.message.splitlines()[0]) == (FAILED, "KeyError: 'nothing'")
    assert "in run" in result.message and set(result.files) == {"a.txt", "deep/b.log"}
