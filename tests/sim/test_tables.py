"""Tables of memories as files."""

import numpy as np

from sim.tables import tables_in_files


def block(name, words):
    return "  initial begin\n" + "".join(f"    {name}[{place}] = 12'h{word:03x};\n" for place, word in words) + "  end\n"


def test_words_of_a_memory_are_in_a_file(tmp_path):
    drawn = [int(word) for word in np.random.default_rng(1).integers(0, 1 << 12, 300)]
    start, end = "module m(clk);\n  reg [11:0] \\sli ce[0] ;\n", "  assign out = in;\nendmodule\n"
    tables = [block("slice_0", enumerate(drawn)), "  wire w;\n", block("\\$7 ", enumerate(drawn[:64]))]
    text = tables_in_files(start + "".join(tables) + end, tmp_path, "machine")
    assert text == (
        f'{start}  initial $readmemh("{tmp_path / "machine-0.hex"}", slice_0, 0, 299);\n  wire w;\n'
        f'  initial $readmemh("{tmp_path / "machine-1.hex"}", \\$7 , 0, 63);\n{end}'
    )
    for number, words in enumerate((drawn, drawn[:64])):
        assert [int(line, 16) for line in (tmp_path / f"machine-{number}.hex").read_text().split()] == words


def test_other_blocks_stay(tmp_path):
    few = block("slice_0", enumerate(range(63)))
    backwards = block("slice_0", reversed(list(enumerate(range(100)))))
    two = block("slice_0", enumerate(range(100))).replace("slice_0[99]", "slice_1[99]")
    register = "  initial begin\n    register = 1'h0;\n  end\n"
    for text in (few, backwards, two, register):
        assert tables_in_files(text, tmp_path, "machine") == text
    assert not list(tmp_path.iterdir())
