"""Inference runtimes behind three calls: bind the inputs, run, read the outputs.

Only `run` is measured. Binding copies the inputs to where the runtime wants them, so that what is timed or counted is
the inference alone, as the runtimes' own benchmark programs do it. The arithmetic is fixed to float32 for models of
float32, also on processors where a runtime would choose half precision.
"""

from __future__ import annotations

import os
from typing import Any, Mapping


class TfliteModel:
    """TFLite's interpreter, of either distribution."""

    def __init__(self, interpreter_class: Any, files: list[str], threads: int) -> None:
        self._interpreter = interpreter_class(files[0], num_threads=threads)
        self._interpreter.allocate_tensors()
        named = self._interpreter.get_signature_runner() if self._interpreter.get_signature_list() else None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._inputs = _tflite_indexes(named and named.get_input_details(), inputs)
        self._outputs = _tflite_indexes(named and named.get_output_details(), outputs)
        self.run = self._interpreter.invoke
        self.inputs = sorted(self._inputs)

    @property
    def kernels(self) -> str:
        """`xnnpack` when the plan holds a delegate, else `builtin`."""
        operators = {operator["op_name"] for operator in self._interpreter._get_ops_details()}  # noqa: SLF001 - no other way
        return "xnnpack" if "DELEGATE" in operators else "builtin"

    def bind(self, inputs: Mapping[str, Any]) -> None:
        for name, array in inputs.items():
            self._interpreter.set_tensor(self._inputs[name], array)

    def outputs(self) -> list[tuple[str, Any]]:
        return [(name, self._interpreter.get_tensor(index)) for name, index in self._outputs.items()]


def _tflite_indexes(signature: Any, plain: Any) -> dict[str, int]:
    """Names to tensor numbers: the signature's names, or the tensors' own where the file has no signature."""
    if signature is not None:
        return {name: detail["index"] for name, detail in signature.items()}
    return {detail["name"]: detail["index"] for detail in plain}


def load_tflite_runtime(files: list[str], threads: int) -> Any:
    """TFLite as the distribution that 32-bit boards still have; its wheel for these is built without XNNPACK."""
    from tflite_runtime.interpreter import Interpreter  # pyright: ignore[reportMissingImports] - boards have it

    return TfliteModel(Interpreter, files, threads)


def load_litert(files: list[str], threads: int) -> Any:
    """TFLite as the distribution of today."""
    from ai_edge_litert.interpreter import Interpreter

    return TfliteModel(Interpreter, files, threads)


class OnnxModel:
    """A session of ONNX Runtime on the CPU."""

    def __init__(self, files: list[str], threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])
        self.inputs = sorted(value.name for value in self._session.get_inputs())
        self._names = [value.name for value in self._session.get_outputs()]
        self._given: dict[str, Any] = {}
        self._results: Any = []
        self.kernels = " ".join(self._session.get_providers())

    def bind(self, inputs: Mapping[str, Any]) -> None:
        self._given = dict(inputs)

    def run(self) -> None:
        self._results = self._session.run(self._names, self._given)

    def outputs(self) -> list[tuple[str, Any]]:
        return list(zip(self._names, self._results))


class OpenVinoModel:
    """A compiled OpenVINO model with one request."""

    def __init__(self, files: list[str], threads: int) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(files[0])
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if model.has_rt_info("runtime_options"):
            carried = model.get_rt_info("runtime_options").astype(dict)
            options.update({key: str(value.value) for key, value in carried.items()})
        compiled = core.compile_model(model, "CPU", options)
        executed = compiled.get_runtime_model().get_ops()
        self.kernels = " ".join(sorted({op.get_rt_info()["primitiveType"].astype(str) for op in executed}))
        self.inputs = sorted(port.get_any_name() for port in model.inputs)
        self._names = [port.get_any_name() for port in model.outputs]
        self._request = compiled.create_infer_request()
        self.run = self._request.infer

    def bind(self, inputs: Mapping[str, Any]) -> None:
        import openvino

        for name, array in inputs.items():
            self._request.get_tensor(name)  # says which names there are, if this is none
            self._request.set_tensor(name, openvino.Tensor(array))

    def outputs(self) -> list[tuple[str, Any]]:
        return [(name, self._request.get_output_tensor(index).data) for index, name in enumerate(self._names)]


class NcnnModel:
    """An ncnn network from its `.param` and `.bin` files; batches of one, which ncnn's tensors leave out."""

    def __init__(self, files: list[str], threads: int) -> None:
        import ncnn

        self._ncnn: Any = ncnn
        self._net = self._ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        for file, load in zip(files, (self._net.load_param, self._net.load_model)):
            if load(file) != 0:
                raise ValueError(f"ncnn does not read {os.path.basename(file)}")
        self.inputs = sorted(self._net.input_names())
        self.kernels = "fp32"
        self._given: dict[str, Any] = {}
        self._results: Any = []

    def bind(self, inputs: Mapping[str, Any]) -> None:
        for name, array in inputs.items():
            if array.shape[0] != 1:
                raise ValueError(f"ncnn takes batches of one, and {name!r} is one of {array.shape[0]}")
        self._given = {name: self._ncnn.Mat(_without_batch(array)).clone() for name, array in inputs.items()}

    def run(self) -> None:
        extractor = self._net.create_extractor()
        for name, mat in self._given.items():
            extractor.input(name, mat)
        self._results = [extractor.extract(name)[1] for name in self._net.output_names()]

    def outputs(self) -> list[tuple[str, Any]]:
        return [(name, _with_batch(mat)) for name, mat in zip(self._net.output_names(), self._results)]


def _without_batch(array: Any) -> Any:
    view: Any = memoryview(array)
    return view.cast("B").cast(view.format, view.shape[1:])


def _with_batch(mat: Any) -> Any:
    view: Any = memoryview(mat)
    return memoryview(bytearray(view.tobytes())).cast(view.format, (1, *view.shape))


class MnnModel:
    """A session of MNN on the CPU, in full precision."""

    def __init__(self, files: list[str], threads: int) -> None:
        import MNN

        self._mnn: Any = MNN
        self._interpreter = self._mnn.Interpreter(files[0])
        self._session = self._interpreter.createSession({"numThread": threads, "backend": "CPU", "precision": "high"})
        self._inputs = self._interpreter.getSessionInputAll(self._session)
        self._outputs = self._interpreter.getSessionOutputAll(self._session)
        self.inputs = sorted(self._inputs)
        self.kernels = "precision high"

    def bind(self, inputs: Mapping[str, Any]) -> None:
        for name, array in inputs.items():
            layout = self._mnn.Tensor_DimensionType_Caffe
            host = self._mnn.Tensor(array.shape, self._mnn.Halide_Type_Float, array, layout)
            self._inputs[name].copyFrom(host)

    def run(self) -> None:
        self._interpreter.runSession(self._session)

    def outputs(self) -> list[tuple[str, Any]]:
        return [(name, self._read(tensor)) for name, tensor in sorted(self._outputs.items())]

    def _read(self, tensor: Any) -> Any:
        import numpy as np

        values = np.zeros(tensor.getShape(), np.float32)
        layout = self._mnn.Tensor_DimensionType_Caffe
        host = self._mnn.Tensor(values.shape, self._mnn.Halide_Type_Float, values, layout)
        tensor.copyToHostTensor(host)
        return np.array(host.getNumpyData(), np.float32).reshape(values.shape)


DISTRIBUTIONS = {
    "ai-edge-litert": load_litert,
    "tflite-runtime": load_tflite_runtime,
    "onnxruntime": OnnxModel,
    "openvino": OpenVinoModel,
    "ncnn": NcnnModel,
    "mnn": MnnModel,
}
"""Distribution to what loads files in it."""

MODULES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "ncnn": "ncnn",
    "mnn": "MNN",
}
"""Distribution to the module that is imported of it."""

RUNTIMES = {
    "tflite": ("ai-edge-litert", "tflite-runtime"),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "ncnn": ("ncnn",),
    "mnn": ("mnn",),
}
"""edgekit's word for a runtime to the distributions that are one, the preferred first."""
