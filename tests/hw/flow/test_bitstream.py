"""A bitstream that is not the routed design's is found, and named."""

import pytest

from hw.flow.bitstream import BitstreamError, check_bitstream
from hw.flow.families.base import Part, sections
from hw.flow.families.ecp5 import ECP5
from hw.flow.families.ice40 import ICE40


def test_sections():
    assert sections(".a 1\nx\n y\n\n.b\n.a 1\nz\n") == {"a 1": ["x", "y", "z"], "b": []}


def part():
    return Part(number="", device="", package="", speed="")


@pytest.mark.parametrize(
    ("wanted", "unpacked", "different"),
    [
        (".comment x\n.logic_tile 1 1\n01\n.sym 1 net\n", ".comment\n.logic_tile 1 1\n01\n.ram_data 6 1\n00\n", None),
        (".logic_tile 1 1\n01\n.logic_tile 1 2\n01\n", ".logic_tile 1 1\n11\n.logic_tile 1 2\n00\n", (2, "logic_tile 1 1")),
        (".ram_data 6 1\n01\n", "", (1, "ram_data 6 1")),
    ],
)
def test_ice40_compares_every_tile(tmp_path, monkeypatch, wanted, unpacked, different):
    monkeypatch.setattr("hw.flow.families.ice40.run_tool", lambda name, args, log: args[1].write_text(unpacked))
    (tmp_path / "routed").write_text(wanted)
    files = {"routed": tmp_path / "routed", "bitstream": tmp_path / "bits", "log": tmp_path / "log"}
    if different is None:
        check_bitstream(ICE40, part(), **files)
        return
    count, first = different
    with pytest.raises(BitstreamError) as error:
        check_bitstream(ICE40, part(), **files)
    assert str(error.value) == (
        f"bitstream must unpack to the routed design {tmp_path / 'routed'}, but differs in {count} places, first {first}"
    )


def test_ecp5_compares_luts_memories_and_all_bits(tmp_path, monkeypatch):
    routed, bitstream = tmp_path / "routed", tmp_path / "bits"
    lut, ones = "word: SLICEA.K0.INIT 0110100110010110", "word: SLICEA.K1.INIT 1111111111111111"
    routed.write_text(f".tile A\narc: a b\n{lut}\n{ones}\n.bram_init 3\n000 001\n")
    bitstream.write_bytes(b"bits")
    unpacked = {"text": f".tile A\n{lut}\n.bram_init 3\n000 001\n", "bits": b"bits"}

    def tool(name, args, log):
        target = tmp_path / args[-1]
        if name == "ecpunpack":
            target.write_text(unpacked["text"])
        else:
            target.write_bytes(unpacked["bits"])

    monkeypatch.setattr("hw.flow.families.ecp5.run_tool", tool)
    files = {"routed": routed, "bitstream": bitstream, "log": tmp_path / "log"}
    assert ECP5.unpack(part(), **files) == []
    unpacked["text"] = ".tile A\n.bram_init 3\n000 002\n"
    unpacked["bits"] = b"other"
    assert ECP5.unpack(part(), **files) == ["tile A SLICEA.K0.INIT", "bram_init 3", "bits that are no LUT's"]
