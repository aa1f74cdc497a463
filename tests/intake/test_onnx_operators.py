"""Every ONNX operator, in the forms exporters write, against ONNX Runtime.

`OnnxSource.build` compares the two on the way and raises ParityError, so building is the test.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekit.intake.onnx_operators import OPERATORS
from edgekit.intake.onnx_source import OnnxSource

IMAGE = (1, 4, 6, 8)
GENERATOR = np.random.default_rng(0)


def floats(*shape: int) -> NDArray[np.float32]:
    return GENERATOR.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def positive(*shape: int) -> NDArray[np.float32]:
    return np.abs(floats(*shape)) + np.float32(0.5)


def case(
    name: str, operator: str, *constants: Any, shape: Sequence[int] = IMAGE, opset: int = 20, **attributes: Any
) -> Any:
    return pytest.param(operator, list(constants), tuple(shape), opset, attributes, id=name)


def model_file(
    path: Path,
    operator: str,
    constants: list[NDArray[Any]],
    shape: Sequence[int],
    opset: int,
    attributes: dict[str, Any],
) -> Path:
    """One node between an input and an output, its other inputs constant; everything comes out as float."""
    outputs = attributes.pop("outputs", 1)
    absent = attributes.pop("absent", ())
    names, stored = ["x"], []
    for index, value in enumerate(constants):
        names.append(f"c{index}")
        stored.append(numpy_helper.from_array(np.asarray(value), f"c{index}"))
    for position in absent:
        names.insert(position, "")
    if attributes.pop("input_last", False):
        names = [*names[1:], names[0]]
    made = [f"y{index}" for index in range(outputs)]
    nodes = [helper.make_node(operator, names, made, name="the_node", **attributes)]
    nodes.extend(helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT) for name in made)
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"{name}_float", TensorProto.FLOAT, None) for name in made],
        stored,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


# fmt: off
UNARY = (
    "Abs", "Atan", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Mish", "Neg", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh",
    "Celu", "GlobalAveragePool", "GlobalMaxPool", "Softmax", "LogSoftmax", "LpNormalization", "Dropout",
    "Flatten",
)
# fmt: on

CASES = (
    *(case(name, name) for name in UNARY),
    *(
        case(name, name, positive(4, 1, 1))
        for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu")
    ),
    *(case(name, name, floats(8)) for name in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
    case("gelu_tanh", "Gelu", approximate="tanh"),
    case("hard_sigmoid_sixth", "HardSigmoid", alpha=1 / 6, beta=0.5),
    case("pow", "Pow", np.float32(2.0)),
    case("mod_fmod", "Mod", positive(1), fmod=1),
    case("clip_both", "Clip", np.float32(-0.5), np.float32(0.75)),
    case("clip_high", "Clip", np.float32(0.75), absent=(1,)),
    case("clip_attributes", "Clip", min=0.0, max=0.5, opset=10),
    case("conv", "Conv", floats(8, 4, 3, 3), floats(8), pads=[1, 1, 1, 1], strides=[2, 2]),
    case("conv_depthwise", "Conv", floats(4, 1, 5, 5), group=4, pads=[2, 2, 2, 2]),
    case("conv_uneven_pads", "Conv", floats(8, 4, 3, 3), pads=[0, 1, 1, 2]),
    case("conv_same_upper", "Conv", floats(8, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    case("conv_same_lower", "Conv", floats(8, 4, 2, 2), auto_pad="SAME_LOWER"),
    case("conv_dilated", "Conv", floats(8, 4, 3, 3), dilations=[2, 1], auto_pad="VALID"),
    case("conv_1d", "Conv", floats(8, 4, 3), shape=(1, 4, 9)),
    case("conv_transposed", "ConvTranspose", floats(4, 3, 2, 2), floats(3), strides=[2, 2]),
    case("gemm_linear", "Gemm", floats(5, 4), floats(5), shape=(3, 4), transB=1),
    case("gemm_scaled", "Gemm", floats(4, 5), floats(3, 5), shape=(4, 3), transA=1, alpha=0.5, beta=2.0),
    case("matmul", "MatMul", floats(8, 5)),
    case("batch_norm", "BatchNormalization", positive(4), floats(4), floats(4), positive(4), epsilon=1e-3),
    case("layer_norm", "LayerNormalization", floats(8), floats(8)),
    case("layer_norm_two_axes", "LayerNormalization", floats(6, 8), axis=-2),
    case("instance_norm", "InstanceNormalization", floats(4), floats(4)),
    case("group_norm", "GroupNormalization", floats(2), floats(2), num_groups=2),
    case("lrn", "LRN", size=3),
    case("softmax_axis", "Softmax", axis=1),
    case("softmax_old", "Softmax", opset=11),
    case("max_pool", "MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("max_pool_uneven", "MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    case("max_pool_ceil", "MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, shape=(1, 4, 8, 8)),
    case("average_pool", "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case("average_pool_counted", "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("average_pool_uneven", "AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
    *(
        case(f"{name}_input", name, ints(2, 3), keepdims=0)
        for name in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1", "ReduceProd")
    ),
    case("reduce_mean_attribute", "ReduceMean", axes=[1], opset=13),
    case("reduce_all", "ReduceSumSquare", keepdims=0),
    case("reduce_log_sum_exp", "ReduceLogSumExp", ints(1)),
    case("arg_max", "ArgMax", axis=1, keepdims=0),
    case("arg_min", "ArgMin", axis=-1),
    case("reshape", "Reshape", ints(0, 2, -1, 8)),
    case("flatten_0", "Flatten", axis=0),
    case("flatten_last", "Flatten", axis=-1),
    case("transpose", "Transpose", perm=[0, 2, 3, 1]),
    case("transpose_reversed", "Transpose"),
    case("squeeze_input", "Squeeze", ints(0)),
    case("squeeze_attribute", "Squeeze", axes=[0], opset=11),
    case("squeeze_all", "Squeeze"),
    case("unsqueeze_input", "Unsqueeze", ints(0, -1)),
    case("unsqueeze_attribute", "Unsqueeze", axes=[1], opset=11),
    case("concat", "Concat", floats(1, 2, 6, 8), axis=1),
    case("split_sizes", "Split", ints(1, 3), axis=1, outputs=2),
    case("split_equal", "Split", axis=3, outputs=3, num_outputs=3),
    case("split_attribute", "Split", axis=1, split=[3, 1], outputs=2, opset=11),
    case("slice", "Slice", ints(1, 0), ints(2**63 - 1, -1), ints(2, 3), ints(2, 3)),
    case("slice_backwards", "Slice", ints(-1), ints(-(2**63)), ints(3), ints(-1)),
    case("slice_attribute", "Slice", starts=[1], ends=[3], axes=[1], opset=9),
    case("gather_scalar", "Gather", np.array(-1, dtype=np.int64), axis=1),
    case("gather_grid", "Gather", np.array([[0, -1], [2, 1]], dtype=np.int64), axis=2),
    case("gather_elements", "GatherElements", GENERATOR.integers(-4, 4, (1, 4, 6, 8)), axis=1),
    case("gather_points", "GatherND", np.array([[0, 1], [0, -1]], dtype=np.int64)),
    case("is_nan", "IsNaN"),
    case("expand", "Expand", ints(3, 1, 6, 1)),
    case("tile", "Tile", ints(1, 2, 1, 3)),
    case("pad_constant", "Pad", ints(0, 0, 1, 2, 0, 1, 0, 3), np.float32(0.5)),
    case("pad_reflect", "Pad", ints(0, 0, 1, 2, 0, 0, 2, 1), mode="reflect"),
    case("pad_edge", "Pad", ints(0, 0, 1, 2, 0, 0, 2, 1), mode="edge"),
    case("pad_attribute", "Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=1.0, opset=10),
    case("pad_axes", "Pad", ints(1, 2), np.float32(0.0), ints(3)),
    case("depth_to_space", "DepthToSpace", blocksize=2),
    case("depth_to_space_crd", "DepthToSpace", blocksize=2, mode="CRD"),
    case("space_to_depth", "SpaceToDepth", blocksize=2),
    case("triangle", "Trilu", upper=0),
    case("cumulative_sum", "CumSum", np.array(2, dtype=np.int64)),
    case("top_k", "TopK", ints(3), axis=-1, outputs=2),
    case("einsum", "Einsum", floats(8, 3), equation="bchw,wk->bchk"),
    case("where", "Where", GENERATOR.integers(0, 2, (8,)).astype(bool), floats(8), input_last=True),
    case("shape", "Shape", start=1),
    case(
        "resize_nearest",
        "Resize",
        np.array([1, 1, 2, 2], dtype=np.float32),
        absent=(1,),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    case("resize_nearest_default", "Resize", np.array([1, 1, 2, 2], dtype=np.float32), absent=(1,)),
    case("resize_linear_sizes", "Resize", ints(1, 4, 9, 5), absent=(1, 2), mode="linear"),
    case(
        "resize_linear_scales",
        "Resize",
        np.array([1, 1, 1.5, 2], dtype=np.float32),
        absent=(1,),
        mode="linear",
        coordinate_transformation_mode="pytorch_half_pixel",
    ),
    case(
        "resize_corners",
        "Resize",
        ints(1, 4, 9, 5),
        absent=(1, 2),
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    case("resize_cubic", "Resize", ints(1, 4, 9, 16), absent=(1, 2), mode="cubic", cubic_coeff_a=-0.75),
)


@pytest.mark.parametrize(("operator", "constants", "shape", "opset", "attributes"), CASES)
def test_operator_agrees_with_onnx_runtime(
    tmp_path: Path,
    operator: str,
    constants: list[NDArray[Any]],
    shape: Sequence[int],
    opset: int,
    attributes: dict[str, Any],
) -> None:
    built = OnnxSource(model_file(tmp_path / "one.onnx", operator, constants, shape, opset, dict(attributes))).build()
    assert built.outputs


def test_every_operator_has_a_case() -> None:
    """The ones left out make constants, need positive or boolean inputs, or are covered by the network tests."""
    tested = {str(parameters.values[0]) for parameters in CASES}
    # fmt: off
    elsewhere = {
        "Acos", "And", "Asin", "Cast", "CastLike", "Constant", "ConstantOfShape", "Log", "Not", "Or", "Range",
        "Reciprocal", "Size", "Sqrt", "Tan", "Xor",
    }
    # fmt: on
    assert OPERATORS.keys() - tested == elsewhere


def test_operators_on_positive_and_boolean_values(tmp_path: Path) -> None:
    """Chains of the operators that `CASES` leaves out; all outputs are compared with ONNX Runtime."""
    make = helper.make_node
    nodes = [
        make("Abs", ["x"], ["a"]),
        make("Constant", [], ["one"], value=numpy_helper.from_array(np.array(1.0, dtype=np.float32))),
        make("Add", ["a", "one"], ["p"]),
        make("Log", ["p"], ["log"]),
        make("Sqrt", ["p"], ["sqrt"]),
        make("Reciprocal", ["p"], ["t"]),
        make("Asin", ["t"], ["asin"]),
        make("Acos", ["t"], ["acos"]),
        make("Tan", ["t"], ["tan"]),
        make("Greater", ["x", "one"], ["b"]),
        make("Less", ["x", "t"], ["c"]),
        make("And", ["b", "c"], ["and"]),
        make("Or", ["b", "c"], ["or"]),
        make("Xor", ["b", "c"], ["xor"]),
        make("Not", ["xor"], ["not"]),
        make("Cast", ["not"], ["not_float"], to=TensorProto.FLOAT),
        make("CastLike", ["or", "x"], ["or_float"]),
        make("CastLike", ["and", "x"], ["and_float"]),
        make("Size", ["x"], ["size"]),
        make("Constant", [], ["zero"], value_int=0),
        make("Constant", [], ["step"], value_int=2),
        make("Range", ["zero", "size", "step"], ["range"]),
        make("Cast", ["range"], ["range_float"], to=TensorProto.FLOAT),
        make("Shape", ["x"], ["shape"]),
        make("ConstantOfShape", ["shape"], ["twos"], value=numpy_helper.from_array(np.array([2.0], dtype=np.float32))),
        make("Mul", ["x", "twos"], ["doubled"]),
    ]
    made = ["log", "sqrt", "asin", "acos", "tan", "not_float", "or_float", "and_float", "range_float", "doubled"]
    graph = helper.make_graph(
        nodes,
        "many",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 4, 4))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made],
    )
    path = tmp_path / "many.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    assert OnnxSource(path).build().outputs == tuple(made)
