"""Runs one artifact once, with one thread, in the machine where it is started.

Usage: `run_artifact.py RUNTIME MODEL INPUT.npy OUTPUT.npy`. The first output is written to OUTPUT.npy, and one JSON
line is printed: the runtime and its version, the machine, which kernels ran, and the seconds to load and to run.

This file is all a board needs beside numpy and the runtime: it imports nothing of edgekit and nothing newer than
Python 3.7.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Loaded(NamedTuple):
    """A model that is ready to run, and a hint at the kernels that it runs with."""

    version: str
    kernels: str
    run: Callable[[Any], Any]


def tflite_kernels(interpreter: Any) -> str:
    """`xnnpack` when the interpreter's plan holds a delegate, else `builtin`."""
    operators = {operator["op_name"] for operator in interpreter._get_ops_details()}
    return "xnnpack" if "DELEGATE" in operators else "builtin"


def load_tflite(version: str, interpreter_class: Any, model: str) -> Loaded:
    interpreter = interpreter_class(model, num_threads=1)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    target = interpreter.get_output_details()[0]

    def run(array: Any) -> Any:
        interpreter.set_tensor(source["index"], array)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return Loaded(version, tflite_kernels(interpreter), run)


def load_tflite_runtime(model: str) -> Loaded:
    import tflite_runtime  # pyright: ignore[reportMissingImports] - installed in the guest only
    from tflite_runtime.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    return load_tflite(tflite_runtime.__version__, Interpreter, model)


def load_litert(model: str) -> Loaded:
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    return load_tflite(ai_edge_litert.__version__, Interpreter, model)


def load_onnxruntime(model: str) -> Loaded:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    providers = " ".join(session.get_providers())
    return Loaded(onnxruntime.__version__, providers, lambda array: session.run(None, {source.name: array})[0])


def load_openvino(model: str) -> Loaded:
    import openvino

    # On a CPU with half-precision instructions OpenVINO would choose them.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    executed = compiled.get_runtime_model().get_ops()
    kernels = sorted({operator.get_rt_info()["primitiveType"].astype(str) for operator in executed})
    return Loaded(openvino.__version__, " ".join(kernels), lambda array: compiled([array])[0])


RUNTIMES = {
    "tflite-runtime": load_tflite_runtime,
    "ai-edge-litert": load_litert,
    "onnxruntime": load_onnxruntime,
    "openvino": load_openvino,
}


def main(runtime: str, model: str, source: str, target: str) -> None:
    start = time.perf_counter()
    loaded = RUNTIMES[runtime](model)
    ready = time.perf_counter()
    output = loaded.run(np.load(source))
    done = time.perf_counter()
    np.save(target, output)
    report = {
        "runtime": runtime,
        "version": loaded.version,
        "machine": platform.machine(),
        "kernels": loaded.kernels,
        "load_s": round(ready - start, 3),
        "run_s": round(done - ready, 3),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[1] not in RUNTIMES:
        sys.exit(f"usage: run_artifact.py {{{','.join(RUNTIMES)}}} MODEL INPUT.npy OUTPUT.npy")
    main(*sys.argv[1:])
