"""Constants that a file computes."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model.importers.onnx import ConversionError, import_model
from tests.onnx_graphs import Graph, relu_conv, same


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_constants_are_computed(opset):
    g = Graph(opset)
    relu_conv(g)
    data = g.last
    shape = helper.make_node("Constant", [], ["shape"], value=onnx.numpy_helper.from_array(np.array([0, -1])))
    g.nodes.append(shape)
    weights = g.constant(g.rng.normal(0, 0.3, (3, 108)))
    g.add("Transpose", data=weights, perm=[1, 0]).add("Cast", to=TensorProto.DOUBLE).add("Cast", to=TensorProto.FLOAT)
    g.add("Identity")
    weights = g.last
    g.add("Reshape", "shape", data=data).add("MatMul", weights)
    same(g)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("of_data", [True, False])
def test_a_dropout_that_drops_is_refused_wherever_it_is(of_data, training):
    graph = Graph(17).conv(3, 2, 3).add("Relu").add("Flatten")
    flat, weights = graph.last, graph.rng.normal(0, 0.3, (108, 3)).astype(np.float32)
    graph.constants.append(numpy_helper.from_array(np.array(training), "mode"))
    if of_data:
        graph.add("Dropout", np.float32(0.5), "mode", name="drop").add("MatMul", weights)
    else:
        graph.add("Dropout", np.float32(0.5), "mode", data=graph.constant(weights), name="drop")
        graph.add("MatMul", graph.last, data=flat)
    if training:
        message = "net.onnx: node 'drop' (Dropout): training_mode must be false; export the network in evaluation mode"
        with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
            import_model(graph.model(), "net.onnx")
    else:
        same(graph)
