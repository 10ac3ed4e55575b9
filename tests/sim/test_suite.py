"""The suite's RTL: which networks, what is compared, that it is done once, and that a difference is an error."""

import json

import pytest
from click.testing import CliRunner

from model.support.choices import ZOO
from model.support.files import write_file
from sim import cosimulation, suite
from sim.cosimulation import VerifyResult
from sim.coverage import Coverage


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What `python -m model.suite` leaves of two networks, both the bundled small one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "build" / "suite"
    listed = [
        {"name": "one", "converted": {"file": "one.npz"}, "tuned": None},
        {"name": "two", "converted": {"file": "two.npz"}, "tuned": {"file": "two-tuned.npz"}},
    ]
    write_file(path / "suite.json", json.dumps({"networks": listed}))
    for name in ("one", "two", "two-tuned"):
        write_file(path / f"{name}.npz", (ZOO / "mnist-small.npz").read_bytes())
    return path


@pytest.fixture
def verified(monkeypatch):
    """The plans and frames that were simulated; what is found is the same each time."""
    found = []

    def verify(network, plan, images, *, out_dir, line):
        found.append((plan.name, plan.lanes, len(images)))
        return VerifyResult(
            network=network.name,
            plan=plan.name,
            level="rtl",
            simulator="verilator",
            seed=1,
            frames=len(images),
            spikes_compared=1234,
            events_compared=5,
            mismatches=0,
            cycles_compared=6789,
            cycle_mismatches=0,
            cycles_per_frame_mean=1000.5,
            latency_cycles_mean=2000.0,
            coverage=Coverage(frames=len(images), input_spikes_of_higher_levels=0, layers=(), cores=()),
        )

    monkeypatch.setattr("sim.cosimulation.verify", verify)
    return found


def test_command(folder, verified):
    page = folder / "page.md"
    page.write_text("<!-- table rtl -->\n<!-- end -->\n")
    arguments = ["--dataset", "digits5k", "--frames", "3", "--docs", str(page)]
    found = CliRunner().invoke(suite.main, [*arguments, "--json"])
    assert found.exit_code == 0, found.output
    assert verified == 3 * [("minimal", 2, 3)]
    assert json.loads(found.stdout) == json.loads((folder / "rtl.json").read_text())
    assert [one["name"] for one in json.loads(found.stdout)] == ["one", "two", "two"]
    table = (folder / "rtl.md").read_text()
    assert table.splitlines()[2:] == [
        f"| `{name}.npz` | 2 | 3 | 1,234 | 6,789 | 1,000.5 |" for name in ("one", "two", "two-tuned")
    ]
    assert table in page.read_text()

    one = CliRunner().invoke(suite.main, [*arguments, "--networks", "two"])
    assert one.exit_code == 0
    assert "nothing differs" in one.stdout
    # Rows of the suite's networks stay where they are left out, others do not.
    kept = "| `lenet5-tuned.npz` | 5 | 2 | 3 | 4 | 5.0 |"
    page.write_text(page.read_text().replace("| `two.npz`", f"{kept}\n| `two.npz`"))
    assert CliRunner().invoke(suite.main, [*arguments, "--networks", "two"]).exit_code == 0
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    assert rows == [kept, *table.splitlines()[3:]]
    # Nothing is simulated again.
    assert len(verified) == 3


def test_a_difference_is_an_error_and_is_not_kept(folder, verified, monkeypatch):
    right = cosimulation.verify

    def differs(*arguments, **options):
        found = right(*arguments, **options)
        return VerifyResult.of({**vars(found), "coverage": vars(found.coverage), "cycle_mismatches": 1, "report": "late"})

    monkeypatch.setattr("sim.cosimulation.verify", differs)
    for _ in range(2):
        found = CliRunner().invoke(suite.main, ["--dataset", "digits5k", "--networks", "one"])
        assert found.exit_code == 5
        line = "error: one.npz: the RTL differs from the golden model or the cycle model: late"
        assert found.stderr.splitlines()[-1] == line
    assert len(verified) == 2


@pytest.mark.parametrize(
    ("content", "arguments", "line"),
    [
        (None, [], "error: {path}: cannot be read, python -m model.suite makes it: No such file or directory"),
        ("{}", [], "error: {path}: must be what python -m model.suite writes: 'networks'"),
        (
            '{"networks": [{"name": "one", "converted": {"file": "one.npz"}, "tuned": null}]}',
            ["--networks", "one,two"],
            "error: --networks must be of one, not 'two'",
        ),
    ],
)
def test_bad_input(content, arguments, line, folder):
    path = folder / "suite.json"
    path.unlink() if content is None else path.write_text(content)
    found = CliRunner().invoke(suite.main, ["--folder", "build/suite", "--dataset", "digits5k", *arguments])
    assert found.exit_code == 2
    assert found.stderr.splitlines()[-1] == line.format(path="build/suite/suite.json")
