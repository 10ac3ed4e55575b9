"""Names that are safe wherever they come to stand."""

import pytest

from model.support.names import MOST_TEXT, is_layer_name, is_printable, is_safe_name, layer_name, printable, safe_name, shortened


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mnist-paper", "mnist-paper"),
        ("my net (1)", "my_net_1_"),
        ("../../etc", "_.._etc"),
        (".hidden", "hidden"),
        ("--", "network"),
        ("", "network"),
        ("数字", "_"),
        ("<b>", "_b_"),
        ("x" * 300, "x" * 100),
    ],
)
def test_safe_names_from_any_text(text, name):
    assert safe_name(text) == name
    assert is_safe_name(name)


def test_layer_names_from_any_text():
    taken: list[str] = ["input"]
    for text, name in (
        ("features.0/Conv", "features_0_Conv"),
        ("features/0/Conv", "features_0_Conv_2"),
        ("0", "layer_0"),
        ("", "layer_"),
        ("input", "input_2"),
        ("é", "_"),
        ("x" * 300, "x" * 100),
        ("x" * 400, "x" * 98 + "_2"),
        ("class", "class"),
    ):
        assert layer_name(text, taken) == name
        assert is_layer_name(name)
        taken.append(name)


def test_printable():
    assert printable("a\n\x1b[2J\u202eb\ud800") == "a  [2J b "
    assert is_printable(printable("\0" * 5000)) and not is_printable("a\tb") and not is_printable(None)
    assert shortened("x" * MOST_TEXT) == "x" * MOST_TEXT
    assert shortened("x" * 5000) == "x" * MOST_TEXT + " ..."
