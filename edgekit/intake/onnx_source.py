"""An ONNX file as a source: `model.onnx`. It brings its weights along.

Taking over a graph is a translation, so it is checked where it is made: ONNX Runtime runs the original file, and must
agree with the float64 run of the translation about as well as torch's own float32 run does.
"""

import copy
import functools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from edgekit.artifact import ModelCard, Shape, SizeRule, TensorSpec
from edgekit.errors import MisuseError, ModelError, ParityError
from edgekit.files import sha256
from edgekit.inputs import natural, noise
from edgekit.intake.adapt import all_different, path_name
from edgekit.intake.onnx_file import OnnxGraph, external_files, read_onnx
from edgekit.intake.onnx_network import OnnxNetwork
from edgekit.intake.onnx_operators import OPERATORS
from edgekit.intake.sheet import Sheet, make_card
from edgekit.intake.source import Asked, Built, WeightsPolicy, shapes_by_name
from edgekit.intake.zoo import no_kernel_policy
from edgekit.numerics import compare_one, gate_db
from edgekit.user_code import described

OPEN_SIDE = 224
"""Height and width where the file leaves them open and none is asked for; other open sides are 1."""


class OnnxSource:
    """An `.onnx` file."""

    weights: WeightsPolicy = "fixed"

    def __init__(self, path: Path) -> None:
        self.text = str(path)
        self.name = path.stem
        self._path = path
        self._built: dict[tuple[Shape, ...], Built] = {}

    def inputs(self, asked: Asked = None) -> tuple[TensorSpec, ...]:
        return self.build(asked).inputs

    def identity(self) -> dict[str, str]:
        found = {"onnx": sha256(self._path)}
        self._graph  # noqa: B018 - says what is wrong with the file before anything is made of it
        for place in external_files(onnx.load(self._path, load_external_data=False)):
            found[f"data {place}"] = sha256(self._path.parent / place)
        return found

    def card(self, asked: Asked = None) -> ModelCard:
        built = self.build(asked)
        card = make_card(self.name, "onnx", Sheet(), built, SizeRule(), layout_note(built))
        stored = (value for value in self._graph.constants.values() if np.issubdtype(value.dtype, np.floating))
        return replace(card, parameters=sum(value.size for value in stored))

    def build(self, asked: Asked = None, kernel_policy: str | None = None) -> Built:
        no_kernel_policy(self.text, kernel_policy)
        own = self._graph.inputs
        names = all_different(path_name((name,), "input") for name in own)
        shapes = shapes_by_name(asked, names, self.text)
        inputs = tuple(
            self._spec(name, *kind, shapes.get(name)) for name, kind in zip(names, own.values(), strict=True)
        )
        key = tuple(spec.shape for spec in inputs)
        if key not in self._built:
            try:
                network = OnnxNetwork(self._graph, OPERATORS, dict(zip(own, key, strict=True))).eval()
            except ModelError as error:
                raise ModelError(f"{self._path} cannot be taken over. {error}") from error
            outputs = all_different((path_name((name,)) for name in self._graph.outputs), names)
            built = Built(network, network, inputs, outputs)
            check_original(self._path, built)
            self._built[key] = built
        return self._built[key]

    @functools.cached_property
    def _graph(self) -> OnnxGraph:
        return read_onnx(self._path, OPERATORS)

    def _spec(self, name: str, dtype: str, sizes: tuple[int | None, ...], wanted: Shape | None) -> TensorSpec:
        """An input at the size asked for.

        Raises:
            MisuseError: A side that the file fixes was asked to be another.
        """
        shape = wanted or tuple(
            side or (OPEN_SIDE if axis >= 2 and len(sizes) == 4 else 1) for axis, side in enumerate(sizes)
        )
        if len(shape) != len(sizes) or any(own not in {None, side} for own, side in zip(sizes, shape, strict=True)):
            own = "x".join("?" if side is None else str(side) for side in sizes)
            raise MisuseError(
                f"{self._path} takes {name!r} as {own}, not {'x'.join(map(str, shape))}. Leave --input out, or export "
                "the file again with open sizes."
            )
        return TensorSpec(name=name, shape=shape, dtype=dtype, layout="NCHW" if len(shape) == 4 else "")


def layout_note(built: Built) -> tuple[str, ...]:
    """A note where the first input looks like an image with its channels last."""
    shape = built.inputs[0].shape
    if len(shape) == 4 and shape[3] in {1, 3, 4} and shape[1] > 4:
        return (f"Input {'x'.join(map(str, shape))} has its channels last; it is fed as it is.",)
    return ()


def check_original(path: Path, built: Built) -> None:
    """Compares ONNX Runtime on the original file with the network made from it.

    Raises:
        ModelError: ONNX Runtime does not run the file.
        ParityError: The two are not the same network.
    """
    images = {spec.name: sample(spec) for spec in built.inputs}
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        own = [port.name for port in session.get_inputs()]
        original = session.run(None, dict(zip(own, images.values(), strict=True)))
    except Exception as error:
        raise ModelError(f"ONNX Runtime itself does not run {path}: {described(error)}.") from error
    single, double = (run_network(built, images, dtype) for dtype in (torch.float32, torch.float64))
    for name, theirs, ours, exact in zip(built.outputs, original, single, double, strict=True):
        required = gate_db(compare_one(exact, ours).snr_db)
        parity = compare_one(exact, theirs)
        if parity.snr_db < required:
            raise ParityError(
                f"{path} was not taken over faithfully: output {name!r} agrees with ONNX Runtime's to "
                f"{parity.snr_db:.1f} dB, where {required:.1f} dB are required. Please report the file; "
                "the PyTorch model it was made from can be given instead."
            )


def sample(spec: TensorSpec) -> NDArray[np.generic]:
    """A seeded input: an image where it can be one, noise otherwise, zeros for integers."""
    if spec.dtype not in {"float32", "float64"}:
        return np.zeros(spec.shape, dtype=spec.dtype)
    image = natural(spec.shape) if len(spec.shape) == 4 and min(spec.shape[2:]) > 1 else noise(spec.shape)
    return image.astype(spec.dtype)


def run_network(built: Built, images: dict[str, NDArray[np.generic]], dtype: torch.dtype) -> list[NDArray[np.generic]]:
    """The network's outputs in one precision."""
    model = copy.deepcopy(built.model).to(dtype)
    inputs = [torch.from_numpy(image) for image in images.values()]
    with torch.no_grad():
        result = model(*(value.to(dtype) if value.is_floating_point() else value for value in inputs))
    return [value.numpy() for value in ((result,) if isinstance(result, torch.Tensor) else result)]
