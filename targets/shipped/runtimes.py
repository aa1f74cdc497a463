"""Inference runtimes behind three calls: bind the inputs, run, read the outputs.

Only `run` is measured. Binding copies the inputs to where the runtime wants them, so that what is timed or counted is
the inference alone, as the runtimes' own benchmark programs do it. The arithmetic is fixed to float32 for models of
float32, also on processors where a runtime would choose half precision.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Mapping

from edgekit.targets.shipped.mnn_model import MnnModel
from edgekit.targets.shipped.ncnn_model import NcnnModel
from edgekit.targets.shipped.parts_model import Load


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

    def __init__(self, files: list[str], threads: int, spinning: bool = True) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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

    def __init__(self, files: list[str], threads: int, pinned: bool = True) -> None:
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
        if not pinned:
            options["ENABLE_CPU_PINNING"] = False
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


DISTRIBUTIONS: Mapping[str, Load] = {
    "ai-edge-litert": load_litert,
    "tflite-runtime": load_tflite_runtime,
    "onnxruntime": OnnxModel,
    "openvino": OpenVinoModel,
    "ncnn": NcnnModel,
    "mnn": MnnModel,
}
"""Distribution to what loads files in it."""

BESIDE: Mapping[str, Load] = {
    "onnxruntime": partial(OnnxModel, spinning=False),
    "openvino": partial(OpenVinoModel, pinned=False),
}
"""The same for files that others run beside, where a distribution's threads would be in each other's way."""

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
