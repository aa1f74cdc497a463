"""Kernels whose speed is a machine's: large matrix products, and passes over memory, in the runtimes themselves.

| kernel | in ONNX Runtime | in OpenVINO |
|---|---|---|
| fp32 product | `MatMul` | `MatMul` with `INFERENCE_PRECISION_HINT=f32`, or it computes in bf16 where it can |
| int8 product | `MatMulInteger`, u8 x s8, its fastest | `MatMul` behind `FakeQuantize`, which it runs in u8 x s8 |
| memory | a chain of `Neg`, each in place, over a tensor of the given size | |

The second factor is a constant, as weights are. A chain is long enough that starting its operators costs little.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np

SIDES = (384, 768)
"""Of the square matrices. The larger runs at the full rate, in 10 ms on a fast core; the smaller nearly so, in a tenth
of the time, which a disturbance misses more often. A power of two would not: its rows meet in the same places of a
cache, which costs a tenth.
"""

WORKING_SETS = tuple(1 << power for power in (18, 20, 22, 24, 26))
"""Bytes of the tensors that memory passes go over, from inside a core's own cache to far outside all caches."""

CHAIN_BYTES = 1 << 26
"""How much the chain over a small tensor reads and writes in all."""

MIN_CHAIN = 2


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel, ready to run.

    Attributes:
        runtime: The runtime it runs in.
        precision: Of a product `fp32` or `int8`; "" for a memory pass.
        work: MACs of a product, bytes read and written by a memory pass.
        size: Side of a product's matrices; bytes of the tensor a memory pass goes over.
        computes_in: What the runtime says it runs.
        call: Runs it once.
    """

    runtime: str
    precision: str
    work: int
    size: int
    computes_in: str
    call: Callable[[], object]


def kernels(
    threads: int, sides: tuple[int, ...] = SIDES, working_sets: tuple[int, ...] = WORKING_SETS
) -> tuple[Kernel, ...]:
    """Every kernel of the installed runtimes, for this many threads."""
    made: list[Kernel] = []
    if find_spec("onnxruntime") and find_spec("onnx"):
        made += (kernel for side in sides for kernel in onnxruntime_products(threads, side))
        made += (memory_pass(threads, size) for size in working_sets)
    if find_spec("openvino"):
        made += (kernel for side in sides for kernel in openvino_products(threads, side))
    return tuple(made)


def onnxruntime_products(threads: int, side: int) -> Iterator[Kernel]:
    """The products of ONNX Runtime."""
    from onnx import TensorProto

    generator = np.random.default_rng(0)
    left = generator.standard_normal((side, side)).astype(np.float32)
    left_u8 = generator.integers(0, 256, (side, side)).astype(np.uint8)
    right_s8 = generator.integers(-127, 128, (side, side)).astype(np.int8)
    for precision, operator, first, second, kind in (
        ("fp32", "MatMul", left, left, TensorProto.FLOAT),
        ("int8", "MatMulInteger", left_u8, right_s8, TensorProto.INT32),
    ):
        nodes = [(operator, ["input", "factor"], ["output"])]
        call = _onnx_call(nodes, first, kind, {"factor": second}, threads)
        yield Kernel("onnxruntime", precision, side**3, side, f"{operator} {first.dtype} x {second.dtype}", call)


def memory_pass(threads: int, size: int) -> Kernel:
    """Passes over a tensor of `size` bytes, each reading and writing all of it."""
    from onnx import TensorProto

    length = max(MIN_CHAIN, CHAIN_BYTES // (2 * size))
    names = ["input", *(f"pass.{number}" for number in range(1, length)), "output"]
    nodes = [("Neg", [source], [target]) for source, target in pairwise(names)]
    given = np.ones(size // 4, np.float32)
    call = _onnx_call(nodes, given, TensorProto.FLOAT, {}, threads)
    return Kernel("onnxruntime", "", 2 * given.nbytes * length, given.nbytes, f"{length} x Neg float32", call)


def _onnx_call(
    nodes: list[tuple[str, list[str], list[str]]],
    given: np.ndarray[Any, Any],
    result: int,
    constants: dict[str, np.ndarray[Any, Any]],
    threads: int,
) -> Callable[[], object]:
    """A graph from `input` to `output`, both of the shape of `given`, as a call."""
    import onnxruntime
    from onnx import helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(given.dtype)
    graph = helper.make_graph(
        [helper.make_node(*node) for node in nodes],
        "kernel",
        [helper.make_tensor_value_info("input", kind, given.shape)],
        [helper.make_tensor_value_info("output", result, given.shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session: Any = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    # Bound once: a result in memory that is new each time would cost more than the kernel, one page at a time.
    binding = session.io_binding()
    kept = onnxruntime.OrtValue.ortvalue_from_numpy(given)
    binding.bind_ortvalue_input("input", kept)
    room = np.zeros(given.shape, helper.tensor_dtype_to_np_dtype(result))
    binding.bind_ortvalue_output("output", onnxruntime.OrtValue.ortvalue_from_numpy(room))
    return lambda: session.run_with_iobinding(binding)


def openvino_products(threads: int, side: int) -> Iterator[Kernel]:
    """The products of OpenVINO."""
    import openvino

    given = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    for precision in ("fp32", "int8"):
        compiled: Any = openvino.Core().compile_model(_openvino_product(given, precision), "CPU", hints)
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(given))
        call = partial(request.infer, share_outputs=True)
        yield Kernel("openvino", precision, side**3, side, _openvino_kernel(compiled), call)


def _openvino_product(factor: np.ndarray[Any, Any], precision: str) -> Any:
    """A product with a constant, with both sides at 256 levels where it is for int8."""
    from openvino import Model, opset13

    make: Any = Model  # its own types do not agree about themselves
    parameter: Any = opset13.parameter(list(factor.shape), np.float32)
    left, right = parameter, opset13.constant(factor)
    if precision == "int8":
        low, high, bound = np.float32(0.0), np.float32(2.55), np.float32(1.27)
        left = opset13.fake_quantize(left, low, high, low, high, 256)
        right = opset13.fake_quantize(right, -bound, bound, -bound, bound, 255)
    product = opset13.matmul(left, right, False, False)
    return make([opset13.result(product)], [parameter])


def _openvino_kernel(compiled: Any) -> str:
    """The kernel that multiplies, as OpenVINO names it."""
    for operation in compiled.get_runtime_model().get_ordered_ops():
        about = operation.get_rt_info()
        if about["layerType"].astype(str) in ("FullyConnected", "MatMul"):
            return str(about["primitiveType"].astype(str))
    return "unknown"
