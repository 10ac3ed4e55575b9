"""Files that lie or claim too much: one line and exit code 2, within seconds and 1 GB, or the meaning that the file has."""

import multiprocessing
import os
import re
import resource
import shutil

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from model.check import main
from model.importers.float_network import ConversionError
from model.importers.graph import load
from model.importers.onnx import import_onnx
from tests.onnx_graphs import Graph

GIGABYTE = 1 << 30
SECONDS = 20
"""CPU time, of which a start of the command would be two."""


FRESH = multiprocessing.get_context("forkserver")
"""Processes that have loaded the command and have done nothing yet: each check is one of its own."""

FRESH.set_forkserver_preload([__name__, "model.conversion.from_quantized", "model.importers.onnx"])


def checked(path, told):
    """Run the command in this process, under limits of memory and time, and send what `check` gives."""
    resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTE, GIGABYTE))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    done = CliRunner().invoke(main, [path], env={"COLUMNS": "200"})
    told.send((done.exit_code, done.stderr.strip(), done.stdout))


def check(path):
    """The exit code, what it says on standard error, and standard output."""
    heard, told = FRESH.Pipe(duplex=False)
    process = FRESH.Process(target=checked, args=(str(path), told))
    process.start()
    told.close()
    try:
        found = heard.recv()
    except EOFError:
        found = None
    process.join()
    assert found is not None and process.exitcode == 0, f"ended with {process.exitcode}"
    return found


def claim(*shape):
    return Graph(shape=("frames", *shape))


def averages_at_the_end(g, channels):
    return g.add("GlobalAveragePool", name="mean").add("Flatten").linear(channels, 3)


def given_by(what):
    """A convolution, and another node that gives what is given already."""
    g = claim(2, 8, 8).conv(3, 2, 3, name="c").add("Relu", name="r").add("Relu", name="again")
    g.nodes[-1].output[0] = {"an input": "image", "an initializer": "k0", "a node": "t1"}[what]
    return g


def circle():
    g = claim(2, 8, 8).conv(3, 2, 3, name="c").add("Relu", name="r").add("Relu", name="s")
    g.nodes[1].input[0] = "t2"
    return g


def endless(needed):
    """A loop over constants, of which weights are made."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["v", "v"], ["sum"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [4, 128]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
    )
    g = claim(2, 8, 8).add("Flatten", name="flat")
    trips, weights = g.constant(np.array(1 << 60)), g.constant(np.ones((4, 128)))
    g.constants.append(numpy_helper.from_array(np.array(True), "true"))
    g.nodes.append(helper.make_node("Loop", [trips, "true", weights], ["looped"], name="loop", body=body))
    return g.add("Gemm", "looped" if needed else weights, transB=1, name="fc")


def constant_of(shape):
    g = claim(2, 8, 8).add("Flatten", name="flat")
    g.nodes.append(helper.make_node("ConstantOfShape", [g.constant(np.array(shape))], ["ones"], name="ones"))
    return g.add("MatMul", "ones", name="fc")


def doubled(times):
    g = claim(2, 8, 8).add("Flatten", name="flat")
    last = g.constant(np.ones((128, 1)))
    for n in range(times):
        g.nodes.append(helper.make_node("Concat", [last, last], [f"d{n}"], name=f"double{n}", axis=1))
        last = f"d{n}"
    return g.add("MatMul", last, name="fc")


def relus(times):
    g = claim(2, 8, 8).conv(3, 2, 3)
    for _ in range(times):
        g.add("Relu")
    return g


def adds(times):
    g = claim(8, 1024, 1024)
    for n in range(times):
        g.add("Add", np.array(1.0), name=f"add{n}")
    return g.add("GlobalAveragePool").add("Flatten").linear(8, 1)


def frames(count):
    return Graph(shape=(count, 2, 8, 8)).conv(3, 2, 3, name="c").add("Relu").add("Flatten").linear(108, 3)


def without_end(value):
    g = claim(2, 8, 8).conv(3, 2, 3, name="c")
    weights = numpy_helper.to_array(g.constants[0]).copy()
    weights[0, 0, 0, 0] = value
    g.constants[0] = numpy_helper.from_array(weights, "k0")
    return g


def negative_variance():
    g = claim(2, 8, 8).conv(3, 2, 3)
    return g.add("BatchNormalization", np.ones(3), np.zeros(3), np.zeros(3), np.full(3, -2.0), name="bn")


MOST = "must have at most 8,388,608 values per frame"
REFUSED = {
    "an input of 2**62 values": (
        lambda: claim(1, 2**31 - 1, 2**31 - 1).conv(2, 1, 3),
        f"input 'image' {MOST}, not 4,611,686,014,132,420,609",
    ),
    "one long axis": (
        lambda: averages_at_the_end(claim(2, 8, 2**31 - 1).conv(3, 2, 3).add("Relu").norm(3), 3),
        f"input 'image' {MOST}, not 34,359,738,352",
    ),
    "a large average": (
        lambda: averages_at_the_end(claim(1, 20000, 20000).conv(2, 1, 3).norm(2), 2),
        f"input 'image' {MOST}, not 400,000,000",
    ),
    "padding that makes it large": (
        lambda: claim(2, 8, 8).add("Pad", pads=[0, 0, 0, 0, 0, 0, 10**9, 10**9], name="p").conv(3, 2, 3),
        f"node 'p' (Pad): output {MOST}, not 2,000,000,032,000,000,128 (1000000008x1000000008x2)",
    ),
    "an output that is large": (
        lambda: claim(1, 1024, 1024).conv(16, 1, 1, name="c"),
        f"node 'c' (Conv): output {MOST}, not 16,777,216 (1024x1024x16)",
    ),
    "many large tensors": (
        lambda: adds(17),
        "node 'add16' (Add): outputs up to here must have at most 134,217,728 values per frame together",
    ),
    "a tensor that is an initializer and a node's": (
        lambda: given_by("an initializer"),
        "tensor 'k0' must be given once, not by an initializer and by node 'again' (Relu)",
    ),
    "a node that gives the input": (
        lambda: given_by("an input"),
        "tensor 'image' must be given once, not by an input and by node 'again' (Relu)",
    ),
    "a tensor of two nodes": (
        lambda: given_by("a node"),
        "tensor 't1' must be given once, not by node 'r' (Relu) and by node 'again' (Relu)",
    ),
    "a circle": (circle, "node 'r' (Relu): input 't2' must not depend on its own output"),
    "a loop without end": (
        lambda: endless(True),
        "node 'loop' (Loop): operator Loop is not supported; recurrent layers have no event-driven form here: use convolutions "
        "or linear layers over a frame",
    ),
    "a constant of 2**40 values": (
        lambda: constant_of([2**20, 2**20]),
        "node 'ones' (ConstantOfShape): constant inputs must fit, and give no more than can be computed ahead; compute it before "
        "the export",
    ),
    "a constant that doubles": (
        lambda: doubled(60),
        "node 'double16' (Concat): constant inputs must fit, and give no more than can be computed ahead; compute it before "
        "the export",
    ),
    "dilations of 10**8": (
        lambda: claim(2, 8, 8).conv(3, 2, 3, dilations=[10**6] * 2, pads=[10**6] * 4, name="c"),
        "node 'c' (Conv): weights must be at most 12,582,912 with dilations written out, not 24,000,024,000,006",
    ),
    "an average along a long axis": (
        lambda: claim(1, 1, 2**20).add("AveragePool", kernel_shape=[1, 2], strides=[1, 2], name="a").add("Flatten"),
        "node 'a' (AveragePool): inputs times outputs along an axis must be at most 4,194,304, not 1,048,576 times 524,288 of a "
        "window of 2; average less at once, or use MaxPool",
    ),
    "an average of a large window": (
        lambda: claim(1, 8, 8).add("AveragePool", kernel_shape=[10**6] * 2, pads=[10**6 - 8] * 4, name="a").add("Flatten"),
        "node 'a' (AveragePool): output must have at most 8,388,608 values per frame, not 999,986,000,049 "
        "(999993x999993x1)",
    ),
    "steps of 10**9": (
        lambda: claim(2, 8, 8).conv(3, 2, 3, strides=[10**9, 1], name="c"),
        "node 'c' (Conv): window and strides must be at most 8,388,608, not 1,000,000,000",
    ),
    "an average in front of many outputs": (
        lambda: claim(8, 1000, 1000).add("AveragePool", kernel_shape=[501] * 2, strides=[499] * 2, name="mean")
        .add("Flatten")
        .linear(32, 5),
        "node 'mean' (AveragePool): averages 1000x1000 positions, more than can be folded into layer 'gemm2'; average "
        "less, or use MaxPool",
    ),
    "too many nodes": (lambda: relus(5000), "nodes must be at most 5,000, not 5,001"),
    "too many MACs": (
        lambda: claim(64, 256, 256).conv(64, 64, 9, name="c").add("GlobalMaxPool").add("Flatten").linear(64, 2),
        "network must take at most 20,000,000,000 MACs per frame, not 20,405,551,232",
    ),
    "a wide order of outputs": (
        lambda: claim(2, 64, 64).conv(2, 2, 1, name="c"),
        "node 'c' (Conv): outputs 64x64x2 must be brought into the file's order by a linear layer of at most 4,194,304 weights, "
        "not 67,108,864; end in fewer outputs, or in a Transpose to (frames, height, width, channels)",
    ),
    "rounding up that is neither on nor off": (
        lambda: claim(2, 8, 8).conv(3, 2, 3).add("Relu").add("MaxPool", kernel_shape=[3, 3], ceil_mode=7, name="p"),
        "node 'p' (MaxPool): ceil_mode must be 0 or 1, not 7",
    ),
    "weights that are not numbers": (
        lambda: without_end(np.nan),
        "node 'c' (Conv): input 'k0' must be finite numbers of float32, not NaN, infinity or more",
    ),
    "weights without end": (
        lambda: without_end(np.inf),
        "node 'c' (Conv): input 'k0' must be finite numbers of float32, not NaN, infinity or more",
    ),
    "a negative variance": (
        negative_variance,
        "node 'bn' (BatchNormalization): variance and epsilon must be more than 0 in sum, not -2",
    ),
    "sums beyond float32": (
        lambda: claim(2, 8, 8).add("Mul", np.array(3e38), name="m").conv(3, 2, 3, name="c"),
        "layer 'c': weights and biases must be finite numbers of float32 with what is folded into them",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_hostile_files_are_refused_in_one_line(tmp_path, what):
    build, message = REFUSED[what]
    path = build().save(tmp_path / "net.onnx")
    code, error, _ = check(path)
    assert (code, error) == (2, f"error: {path}: {message}")
    assert os.listdir(tmp_path) == ["net.onnx"]


ACCEPTED = {
    "as many values as may be": lambda: adds(14),
    "a loop that nothing depends on": lambda: endless(False),
    "a file that fixes 10**9 frames": lambda: frames(10**9),
    "a window of 10**6 in one position": lambda: averages_at_the_end(
        claim(1, 8, 8).conv(2, 1, 1).add("MaxPool", kernel_shape=[10**6] * 2, pads=[10**6 - 8] * 2 + [0, 0]), 2
    ),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_hostile_files_that_mean_something_are_read(tmp_path, what):
    path = ACCEPTED[what]().save(tmp_path / "net.onnx")
    code, error, out = check(path)
    assert (code, error) == (0, "")
    assert "converts: " in out


def test_functions_of_functions_are_not_opened(tmp_path):
    """Thirty functions that call the one before twice: two to the thirty nodes, of a domain that is not ONNX's."""
    model = claim(2, 8, 8).conv(3, 2, 3, name="c").model()
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for n in range(30):
        domain, inner = ("own", f"f{n - 1}") if n else ("", "Relu")
        nodes = [helper.make_node(inner, [x], [y], domain=domain) for x, y in (("x", "a"), ("a", "y"))]
        model.functions.append(helper.make_function("own", f"f{n}", ["x"], ["y"], nodes, opset))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("f29", ["t0"], ["end"], name="bomb", domain="own"))
    model.graph.output[0].name = "end"
    onnx.save(model, tmp_path / "net.onnx")
    code, error, _ = check(tmp_path / "net.onnx")
    assert (code, error) == (
        2,
        f"error: {tmp_path / 'net.onnx'}: node 'bomb' (f29): operator own.f29 is not one of ONNX; export without the "
        "optimizations of a runtime, and without operators of your own",
    )


def test_a_node_name_cannot_reach_the_terminal(tmp_path):
    path = claim(2, 8, 8).add("Elu", name="\x1b[31mred\n" + "x" * 500).save(tmp_path / "net.onnx")
    code, error, out = check(path)
    assert code == 2 and "\x1b" not in error + out and len(error.splitlines()) == 1 and len(error) < 500


@pytest.mark.parametrize(("operator", "domain"), [("\x1b[31mred\n" + "x" * 5000, ""), ("Relu", "\x1b]0;own\x07" + "y" * 5000)])
def test_neither_can_an_operator(tmp_path, operator, domain):
    graph = claim(2, 8, 8).conv(3, 2, 3).add("Relu", name="r")
    graph.nodes[-1].op_type, graph.nodes[-1].domain = operator, domain
    with pytest.raises(ConversionError) as caught:
        import_onnx(graph.save(tmp_path / "net.onnx"))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


def test_a_long_chain_is_read_in_linear_time(tmp_path):
    graph = Graph(shape=("frames", 16))
    for _ in range(4990):
        graph.add("Identity")
    code, said, _ = check(graph.linear(16, 3).save(tmp_path / "net.onnx"))
    assert (code, said) == (0, "")


def test_a_file_of_tensors_that_is_not_there(tmp_path):
    path, beside = tmp_path / "net.onnx", tmp_path / "net.data"
    onnx.save(claim(2, 8, 8).conv(3, 2, 3).model(), path, save_as_external_data=True, location=beside.name, size_threshold=0)
    beside.unlink()
    message = (
        f"{path}: tensor 'k0' must be in file 'net.data' of the same folder, which is not there; keep the two together, or save "
        "the model with its tensors inside"
    )
    with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
        load(path)


def test_tensors_in_other_files(tmp_path):
    """Those of the same folder are read; not what lies elsewhere, nor more than a file may be."""
    path, beside = tmp_path / "in" / "net.onnx", tmp_path / "in" / "net.data"
    path.parent.mkdir()
    model = claim(2, 8, 8).conv(3, 2, 3, name="c").model()
    held = [tensor.raw_data for tensor in model.graph.initializer]
    onnx.save(model, path, save_as_external_data=True, location=beside.name, size_threshold=0)
    assert beside.stat().st_size and [tensor.raw_data for tensor in load(path).graph.initializer] == held
    (tmp_path / "in" / "link").symlink_to("/etc/passwd")
    with (tmp_path / "in" / "large").open("wb") as file:
        file.truncate(200 * GIGABYTE)
    shutil.copy(beside, tmp_path / "outside")
    for place, message in (
        ("../outside", "points outside the directory"),
        ("/etc/passwd", "it is an absolute path"),
        ("link", "it is a symbolic link"),
        ("large", "tensors in other files must have at most 2,147,483,648 bytes together"),
    ):
        changed = onnx.load(path, load_external_data=False)
        tensor = changed.graph.initializer[0]
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=place)
        other = path.with_name("other.onnx")
        other.write_bytes(changed.SerializeToString())
        with pytest.raises(ConversionError) as caught:
            load(other)
        assert str(caught.value).startswith(f"{other}: must be an ONNX file: ") and message in str(caught.value)
