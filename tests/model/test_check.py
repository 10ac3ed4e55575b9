"""The table of what converts: every node, what becomes of it, and all that does not convert at once."""

import json

from click.testing import CliRunner

from model.check import main
from tests.onnx_graphs import Graph


def run(*args):
    done = CliRunner().invoke(main, [str(arg) for arg in args], env={"COLUMNS": "240"})
    return done.exit_code, done.stdout, done.stderr.strip()


def good(tmp_path, **pool):
    g = Graph().conv(2, 1, 3, group=2, pads=[1] * 4, bias=False, name="depthwise").norm(2, name="bn").add("Relu", name="r1")
    g.conv(4, 2, 1, name="pointwise").add("Relu", name="r2")
    g.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2], name="pool", **pool)
    g.add("GlobalAveragePool", name="mean").add("Flatten", name="flat").linear(4, 3).add("Softmax", axis=1, name="soft")
    return g.save(tmp_path / "good.onnx")


def test_what_converts(tmp_path):
    code, out, error = run(good(tmp_path), "--json")
    found = json.loads(out)
    assert (code, error, found["converts"], found["error"]) == (0, "", True, None)
    assert {node["node"]: (node["operator"], node["status"], node["what"]) for node in found["nodes"]} == {
        "depthwise": ("Conv", "supported", "convolution 'depthwise': kernel 3x3, 8x8x2 to 8x8x2, 2 groups"),
        "bn": ("BatchNormalization", "folded", "into layer 'depthwise' before it"),
        "r1": ("Relu", "folded", "activation of layer 'depthwise'"),
        "pointwise": ("Conv", "supported", "convolution 'pointwise': kernel 1x1, 8x8x2 to 8x8x4"),
        "r2": ("Relu", "folded", "activation of layer 'pointwise'"),
        "pool": ("MaxPool", "supported", "max-pool 'pool': window 2x2, 8x8x4 to 4x4x4"),
        "mean": ("GlobalAveragePool", "folded", "into layer 'gemm8' after it"),
        "flat": ("Flatten", "folded", "change of address"),
        "gemm8": ("Gemm", "supported", "linear layer 'gemm8': 4 to 3"),
        "soft": ("Softmax", "folded", "nothing: does not change the arg-max"),
    }
    assert all(node["supported"] and not node["remedy"] for node in found["nodes"])
    # The linear layer takes the average of all positions as one.
    assert found["totals"] == {
        "layers": 4,
        "neurons": 128 + 256 + 3,
        "weights": 18 + 8 + 12,
        "macs_per_frame": 128 * 9 + 256 * 2 + 12,
    }


def test_all_that_does_not_convert_is_listed(tmp_path):
    g = Graph().conv(3, 2, 3, name="c1").add("Sigmoid", name="s1").conv(3, 3, 3, name="c2").add("Elu", name="t2")
    g.add("DynamicQuantizeLinear", name="q").add("Flatten", name="f")
    path = g.save(tmp_path / "bad.onnx")
    code, out, error = run(path)
    assert (code, error) == (
        2,
        f"error: {path}: node 's1' (Sigmoid): is supported at the network's end only; train with ReLU (and 2 more of its nodes)",
    )
    for line in (("s1", "Sigmoid", "unsupported", "train with ReLU"), ("t2", "Elu", "unsupported"), ("q", "unsupported")):
        assert any(all(part in row for part in line) for row in out.splitlines()), line
    assert "converts:" not in out


def test_sums_and_files_that_cannot_be_read(tmp_path):
    code, out, _ = run(good(tmp_path))
    assert code == 0
    assert "converts: 4 layers, 387 neurons, 38 weights, 1,676 MACs per frame as a float network" in out
    missing = tmp_path / "none.onnx"
    assert run(missing) == (2, "", f"error: {missing}: cannot be read: No such file or directory")
    path = Graph().add("Relu").save(tmp_path / "relu.onnx")
    code, out, error = run(path, "--json")
    assert (code, error) == (2, f"error: {path}: must have a Conv, Gemm or MatMul node")
    assert json.loads(out)["converts"] is False


def test_an_empty_path_is_told_as_such(tmp_path):
    code, out, error = run("")
    assert (code, out) == (2, "")
    assert error == "error: ONNX_FILE must name a file, not be empty"


def test_escape_codes_do_not_reach_the_terminal(tmp_path):
    """Neither those of the file's path nor those of an output, wherever they are told."""
    path = good(tmp_path).rename(tmp_path / "\x1b[31mred.onnx")
    code, out, error = run(path)
    assert (code, error) == (0, "") and "[31mred.onnx" in out and "\x1b" not in out
    code, out, error = run(path, "--output", "\x1b[2J")
    assert (code, "\x1b" in out + error) == (2, False)
    assert error.endswith(r"not '\x1b[2J'")
