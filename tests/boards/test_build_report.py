"""What a report says of the text that comes with a network."""

from boards.build_report import _as_text


def test_text_is_text():
    origin = "mnist-paper.onnx, thresholds chosen on 2000 frames of digits5k"
    assert _as_text(origin) == origin
    assert _as_text("<script>a|b</script> ![x](http://x) `c` &amp;") == (
        r"\<script\>a\|b\</script\> !\[x\](http://x) \`c\` \&amp;"
    )
