"""Stored answers: what ONNX Runtime and the onnx package's reference evaluator give for RNN, LSTM and GRU nodes,
for tests/test_onnx.c.

onnx.safetensors has for node 7 its inputs and outputs under the operator's names (7/X, 7/W, .., 7/Y_c; those left out
are missing; 7/sequence_lens as i64), and metadata "7": the attributes as JSON, with "op" and "by".
The runtime computes in f32 and without layout 1; the evaluator in f64, but without lengths, clip and coupling.

    pip install onnx==1.23.2 onnxruntime==1.31.1 safetensors numpy && python3 make_onnx.py
"""
import json

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import save_file

TIME, BATCH, INPUT, HIDDEN = 5, 3, 6, 4
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
INPUTS = {"RNN": ["X", "W", "R", "B", "sequence_lens", "initial_h"],
          "GRU": ["X", "W", "R", "B", "sequence_lens", "initial_h"],
          "LSTM": ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]}
ONNX_TYPE = {"float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE, "int32": onnx.TensorProto.INT32}
random = np.random.default_rng(1)
tensors, attributes_of = {}, {}


def maybe():
    return bool(random.integers(2))


def draw_inputs(op, directions, layout, dtype, with_lengths):
    def real(*shape):
        return random.uniform(-1, 1, shape).astype(dtype)

    def state():
        return real(BATCH, directions, HIDDEN) if layout else real(directions, BATCH, HIDDEN)

    rows = GATES[op] * HIDDEN
    inputs = {"X": real(BATCH, TIME, INPUT) if layout else real(TIME, BATCH, INPUT),
              "W": real(directions, rows, INPUT), "R": real(directions, rows, HIDDEN)}
    if maybe():
        inputs["B"] = real(directions, 2 * rows)
    if with_lengths:
        inputs["sequence_lens"] = random.permutation(np.array([2, TIME, 4], np.int32))
    if maybe():
        inputs["initial_h"] = state()
    if op == "LSTM" and maybe():
        inputs["initial_c"] = state()
    if op == "LSTM" and maybe():
        inputs["P"] = real(directions, 3 * HIDDEN)
    return inputs


def model_of(op, inputs, outputs, attributes):
    names = [name if name in inputs else "" for name in INPUTS[op]]
    node = onnx.helper.make_node(op, names, outputs, **attributes)
    kind = ONNX_TYPE[str(inputs["X"].dtype)]
    graph = onnx.helper.make_graph(
        [node], "one_node",
        [onnx.helper.make_tensor_value_info(n, ONNX_TYPE[str(v.dtype)], v.shape) for n, v in inputs.items()],
        [onnx.helper.make_tensor_value_info(n, kind, None) for n in outputs])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)


def evaluate(by, model, inputs):
    if by == "reference":
        return ReferenceEvaluator(model).run(None, inputs)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def add(by, op, direction):
    runtime = by == "runtime"
    directions = 2 if direction == "bidirectional" else 1
    attributes = {"direction": direction, "hidden_size": HIDDEN}
    if runtime and maybe():
        attributes["clip"] = 0.5
    if runtime and op == "LSTM":
        attributes["input_forget"] = int(maybe())
    if op == "GRU":
        attributes["linear_before_reset"] = int(maybe())
    if runtime and op == "RNN":
        attributes["activations"] = [str(random.choice(["Tanh", "Relu", "Sigmoid", "Softsign", "Softplus"]))] * directions
    if not runtime:
        attributes["layout"] = int(maybe())
    inputs = draw_inputs(op, directions, attributes.get("layout", 0), "float32" if runtime else "float64",
                         runtime and maybe())
    outputs = ["Y", "Y_h", "Y_c"] if op == "LSTM" else ["Y", "Y_h"]
    name = str(len(attributes_of))
    results = evaluate(by, model_of(op, inputs, outputs, attributes), inputs)
    for key, value in {**inputs, **dict(zip(outputs, results))}.items():
        stored = value.astype(np.int64) if key == "sequence_lens" else value
        tensors[f"{name}/{key}"] = np.ascontiguousarray(stored)
    attributes_of[name] = json.dumps({"op": op, "by": by, **attributes})


for op in GATES:
    for direction in ("forward", "reverse", "bidirectional"):
        for by in ["runtime"] * 4 + ["reference"]:
            add(by, op, direction)
save_file(tensors, "onnx.safetensors", metadata=dict(sorted(attributes_of.items(), key=lambda a: int(a[0]))))
print(f"{len(attributes_of)} nodes")
