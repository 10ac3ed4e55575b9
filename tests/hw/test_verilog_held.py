"""The Verilog of the bundled networks stays as it is, byte for byte, unless it is meant to change."""

from dataclasses import replace

import pytest

from model.machine.named_plans import FOLDED, NAMED_PLANS
from tests.hw.verilog_digests import MACHINES, Digest, OtherToolsError, Tools, difference, digest, read

QUICK = {("mnist-small", "minimal"), ("mnist-small", "default"), ("mnist-small", "folded"), ("mnist-sparse", "folded")}

TOOLS = Tools(python="3.11", amaranth="0.5.10", yosys="Yosys 0.50")
HELD = Digest(rtlil="a", verilog="b")


def compared(found: Digest, **tools: str) -> str | None:
    return difference("mnist-small", "fast", HELD, TOOLS, found, replace(TOOLS, **tools))


def test_all_are_held():
    _, machines = read()
    assert set(machines) == set(MACHINES) and len(machines) == len(MACHINES)
    assert {plan for _, plan in machines} >= {*NAMED_PLANS, FOLDED}
    assert all(len(digits) == 64 for held in machines.values() for digits in (held.rtlil, held.verilog))
    assert len({held.verilog for held in machines.values()}) == len(machines)


@pytest.mark.parametrize(
    "machine",
    [machine if machine in QUICK else pytest.param(machine, marks=pytest.mark.full) for machine in MACHINES],
    ids=":".join,
)
def test_verilog_is_held(machine):
    tools, machines = read()
    try:
        message = difference(*machine, machines[machine], tools, *digest(*machine))
    except OtherToolsError as error:
        pytest.skip(str(error))
    assert message is None, message


@pytest.mark.parametrize(
    ("found", "what"),
    [(Digest(rtlil="c", verilog="d"), "RTLIL and Verilog differ"), (Digest(rtlil="a", verilog="d"), "Verilog differs")],
)
def test_a_difference_says_what_to_do(found, what):
    assert compared(found) == (
        f"mnist-small at plan fast: {what} from verilog_digests.json: the machine is another. If that was meant, write the "
        "digest anew with `python -m tests.hw.verilog_digests --write mnist-small:fast` (without a name, all of them), and say "
        "in CHANGELOG.md that bitstreams change; if not, compare with the Verilog of the commit before: `python -m hw.build "
        "model/zoo/mnist-small.npz --plan fast --verilog-only`"
    )


def test_equal_is_equal_whatever_wrote_it():
    assert compared(HELD) is None
    assert compared(HELD, python="3.13", amaranth="0.5.11") is None


def test_rtlil_decides_where_only_yosys_is_another():
    assert compared(Digest(rtlil="c", verilog="d"), yosys="Yosys 0.66").startswith(
        "mnist-small at plan fast: RTLIL and Verilog differ from verilog_digests.json"
    )
    with pytest.raises(OtherToolsError) as error:
        compared(Digest(rtlil="a", verilog="d"), yosys="Yosys 0.66")
    assert str(error.value) == (
        "mnist-small at plan fast: RTLIL is equal, but Verilog cannot be compared with verilog_digests.json: here it is written "
        "by yosys Yosys 0.66 and not Yosys 0.50. Write the digests anew, on a commit that is known to be right, with "
        "`python -m tests.hw.verilog_digests --write`"
    )


@pytest.mark.parametrize("tools", [{"amaranth": "0.5.11"}, {"python": "3.13"}, {"amaranth": "0.5.11", "yosys": "Yosys 0.66"}])
def test_other_writers_cannot_be_compared(tools):
    with pytest.raises(OtherToolsError, match=r"^mnist-small at plan fast: Verilog cannot be compared .* here it is written by "):
        compared(Digest(rtlil="c", verilog="d"), **tools)
