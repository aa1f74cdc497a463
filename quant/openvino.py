"""OpenVINO through NNCF, with its full bias correction; half floats as OpenVINO's own compression writes them.

What has to be so, found by measuring; each has a test:

1. All but the chosen layers is ignored, so that no elementwise operator is computed in int8 between two that are not.
2. Biases are corrected layer by layer, with what the layers before have already lost, where that brings the outputs
   closer to float; on some networks it takes them 15 dB away. The fast way, NNCF's default, takes the float network's
   statistics for all layers, and loses points on depthwise networks.
3. Ranges are those with the least error over all calibration images, or as asked; NNCF takes the mean of each image's
   extremes, which cuts off half of them.
4. NNCF reports to a server when it is imported and used. It is imported without the package that does so.

Activations are asymmetric (the `mixed` preset): what comes out of a GELU has hardly any negative half.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from edgekit.dense_layer import DenseLayer
from edgekit.errors import ConverterError, OutputError, first_line
from edgekit.filegraph.base import FileGraph
from edgekit.quant import dense
from edgekit.quant.base import Job, Kind, Layer
from edgekit.quant.half import halved
from edgekit.quant.recipe import Ranges

_KINDS: dict[str, Kind] = {
    "Convolution": "convolution",
    "GroupConvolution": "grouped",
    "MatMul": "linear",
}

_ESTIMATORS: dict[Ranges, str] = {"minmax": "MINMAX", "percentile": "MEAN_QUANTILE", "mse": "HISTOGRAM"}
"""What NNCF calls them; its percentile is the mean of each image's."""

COMPARED = 16
"""On how many calibration inputs it is decided whether biases are corrected."""

_TELEMETRY = "openvino_telemetry"
_PORTS = frozenset({"Parameter", "Result"})
_NO_OPERATION = _PORTS | {"Constant"}
_THROUGH = frozenset({"Convert", "Multiply", "Subtract", "Reshape", "FakeQuantize"})
"""What stands between constants and the layer that uses them."""

_NARROW = frozenset({"i8", "u8", "f16"})


def layers(path: Path) -> tuple[Layer, ...]:
    """The convolutions, products and linear layers of an `.xml` file."""
    from edgekit.filegraph.openvino import read

    graph = read(path)
    found = []
    operations = _read(path).get_ordered_ops()
    highest = {
        each.get_friendly_name(): each.get_attributes()["max"]
        for each in operations
        if each.get_type_name() == "Clamp" and each.get_attributes()["min"] == 0
    }
    for operation in operations:
        kind = _kind(operation)
        if kind is not None:
            node = graph.nodes[operation.get_friendly_name()]
            known = _dense(kind, operation, graph, highest)
            found.append(Layer(node.name, kind, node.name, node.module, node.macs, known))
    return tuple(found)


def _dense(kind: Kind, operation: Any, graph: FileGraph, highest: dict[str, float]) -> DenseLayer | None:
    """What a dense layer is, whose weights are (O, I, H, W) or a matrix; None of another one."""
    given = operation.get_attributes()
    shape, weight = (tuple(operation.input(index).get_shape()) for index in (0, 1))
    if kind == "linear":
        return None if given["transpose_a"] else dense.linear(shape, weight[0 if given["transpose_b"] else 1])
    if kind != "convolution":
        return None
    clip = dense.clip_behind(graph, graph.nodes[operation.get_friendly_name()], highest)
    sides, steps = (shape[2:], weight[2:]), (given["strides"], given["dilations"])
    padding = (*given["pads_begin"], *given["pads_end"])
    return dense.convolution((weight[1], weight[0]), sides, steps, padding, clip)


def _read(path: Path) -> Any:
    return openvino.Core().read_model(str(path))


def _kind(operation: Any) -> Kind | None:
    kind = _KINDS.get(operation.get_type_name())
    if kind in ("convolution", "linear"):
        weight = operation.input_value(1)
        constant = weight.get_node().get_type_name() == "Constant"
        if not constant or (kind == "linear" and len(weight.get_shape()) != 2):
            return "product"
    return kind


def weights(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The constants of layers."""
    yield from _stored_as(openvino.Type.f32, path)


def halves(path: Path) -> Iterator[tuple[str, NDArray[np.float16]]]:
    """The same, of those in half floats."""
    yield from _stored_as(openvino.Type.f16, path)


def _stored_as(kind: Any, path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    for operation in _read(path).get_ordered_ops():
        constant = _constant(operation) if operation.get_type_name() in _KINDS else None
        if constant is not None and constant.get_output_element_type(0) == kind:
            yield operation.get_friendly_name(), np.array(constant.data)


def _constant(operation: Any) -> Any:
    """The constant that a layer multiplies with, as the file stores it; None where it multiplies two maps."""
    found = (_stored(operation.input_value(operand).get_node()) for operand in (1, 0))
    return next((constant for constant in found if constant is not None), None)


def _stored(operation: Any) -> Any:
    """The constant that an operation makes its result of; None where that depends on the inputs of the network."""
    if operation.get_type_name() == "Constant":
        return operation
    if operation.get_type_name() not in _THROUGH:
        return None
    found = [_stored(operand.get_node()) for operand in operation.input_values()]
    return None if any(each is None for each in found) else found[0]


def quantize(source: Path, job: Job, target: Path) -> tuple[Path, ...]:
    """Writes an `.xml` file and the `.bin` beside it."""
    model = _read(source)
    name = model.get_friendly_name()
    try:
        made = _by_method(model, job)
    except Exception as error:
        raise ConverterError(f"NNCF could not quantize {source.name}: {first_line(error)}") from error
    made.set_friendly_name(name)
    _number(made)
    try:
        openvino.save_model(made, str(target), compress_to_fp16=False)
    except RuntimeError as error:
        raise OutputError(f"{target} cannot be written: {first_line(error)}") from error
    return target, target.with_suffix(".bin")


def _by_method(model: Any, job: Job) -> Any:
    """The model with the chosen layers quantized."""
    if job.recipe.half:
        return _halves(model, job.chosen)
    return _weights_only(model, job) if job.recipe.method == "weightonly" else _static(model, job)


def _halves(model: Any, chosen: frozenset[str]) -> Any:
    """Stores the weights of layers as half floats, each converted where it is used.

    `save_model` can do so with all constants, whether they fit or not, and not with some.
    """
    stored = {}
    for operation in model.get_ordered_ops():
        constant = _constant(operation) if operation.get_friendly_name() in chosen else None
        if constant is not None:
            stored[constant.get_friendly_name()] = constant
    for constant in stored.values():
        readers = list(constant.output(0).get_target_inputs())
        half = openvino.opset13.constant(halved(np.array(constant.data)))
        expanded = openvino.opset13.convert(half, "f32")
        for reader in readers:
            reader.replace_source_output(expanded.output(0))
    return model


def _number(model: Any) -> None:
    """Numbers the nodes that have no module anew: OpenVINO numbers them through the life of the process."""
    for index, operation in enumerate(model.get_ordered_ops()):
        kind = operation.get_type_name()
        if kind not in _PORTS and "/" not in operation.get_friendly_name():
            operation.set_friendly_name(f"{kind}_{index}")


def _static(model: Any, job: Job) -> Any:
    """Conversions around layers; of both ways to treat biases the one whose outputs come closer to float."""
    made = _with_ranges(model, job, corrected=False)
    if job.draft or not job.corrected:
        return made
    corrected = _with_ranges(model, job, corrected=True)
    return min((made, corrected), key=lambda each: _error(model, each, job))


def _with_ranges(model: Any, job: Job, *, corrected: bool) -> Any:
    nncf = import_nncf()
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    return nncf.quantize(
        model,
        nncf.Dataset(_inputs(model, job)),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=job.images,
        fast_bias_correction=False,
        ignored_scope=_all_but(nncf, model, job.chosen),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=getattr(RangeEstimatorParametersSet, _ESTIMATORS[job.ranges]),
            disable_bias_correction=not corrected,
            overflow_fix=nncf.OverflowFix.ENABLE if job.short_sums else nncf.OverflowFix.DISABLE,
        ),
    )


def _inputs(model: Any, job: Job) -> Iterator[list[NDArray[np.float32]]]:
    """The calibration inputs in the order of the model's ports."""
    names = [port.get_any_name() for port in model.inputs]
    return ([feed[name] for name in names] for feed in job.calibration())


def _error(exact: Any, rounded: Any, job: Job) -> float:
    """Sum of squared differences of all outputs on some of the calibration inputs."""
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    first, second = (openvino.compile_model(model, "CPU", settings) for model in (exact, rounded))
    total = 0.0
    for inputs in islice(_inputs(exact, job), COMPARED):
        outputs = zip(first(inputs).values(), second(inputs).values(), strict=True)
        total += sum(float(np.sum(np.square(one - other))) for one, other in outputs)
    return total


def _weights_only(model: Any, job: Job) -> Any:
    nncf = import_nncf()
    return nncf.compress_weights(
        model, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=_all_but(nncf, model, job.chosen)
    )


def _all_but(nncf: Any, model: Any, chosen: frozenset[str]) -> Any:
    """The scope NNCF is to ignore."""
    names = [
        operation.get_friendly_name()
        for operation in model.get_ordered_ops()
        if operation.get_type_name() not in _NO_OPERATION and operation.get_friendly_name() not in chosen
    ]
    return nncf.IgnoredScope(names=names, validate=False)


def import_nncf() -> Any:
    """NNCF, imported so that it has nothing to report with."""
    if "nncf" not in sys.modules:
        with _hidden(_TELEMETRY):
            import nncf
    import nncf

    return nncf


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """A block in which a package cannot be imported."""
    held: dict[str, ModuleType] = {
        name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == package
    }
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(held)


def quantized(path: Path) -> frozenset[str]:
    """The layers whose weights are integers or half floats."""
    return frozenset(
        operation.get_friendly_name()
        for operation in _read(path).get_ordered_ops()
        if operation.get_type_name() in _KINDS and _has_narrow_weights(operation)
    )


def _has_narrow_weights(operation: Any) -> bool:
    """Whether constants of fewer bits stand behind the operator that gives a layer its weights."""
    constant = _constant(operation)
    return constant is not None and constant.get_output_element_type(0).to_string() in _NARROW
