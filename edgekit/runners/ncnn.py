"""ncnn on the CPU, in float32: storage and arithmetic in half precision or bfloat16, its default, are switched off.

Its profile is taken from outside: ncnn computes what is asked for and keeps it, so that asking for each layer's result
in order takes that layer's time. What is kept cannot be worked on in place, so that some layers copy their input first,
and a run takes longer than otherwise.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import ncnn
import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.errors import ArtifactError, first_line
from edgekit.runners.base import (
    PROFILE_WARM_UP,
    Description,
    OperatorTime,
    Profile,
    Runner,
    Tensors,
    check_inputs,
    milliseconds,
    read_description,
)

_ncnn: Any = ncnn  # compiled, and says nothing of its types

MARK = "# edgekit "
"""Before the exporter's description, on the last line of the `.param` file."""

_NARROWER = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
    "use_vulkan_compute",
)
"""Options that let ncnn compute in less than float32."""


_CHOICES = frozenset({"use_winograd_convolution", "use_winograd43_convolution", "use_winograd63_convolution"})
"""Options that a file may set, where the network needs it to be itself."""


_AS_IT_IS = 1
"""Of `extract`: the result in the layout the layer left it in."""


class NcnnRunner:
    """A network of ncnn, and what the exporter wrote about it."""

    def __init__(self, net: Any, described: Description, path: Path) -> None:
        self._net: Any = net
        self._path = path
        self._metadata = described.metadata
        self.inputs = described.inputs
        self.outputs = described.outputs

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        # A matrix of ncnn does not own the array it is made of, so the arrays are kept until the end.
        images = [np.ascontiguousarray(inputs[spec.name][0]) for spec in self.inputs]
        extractor = self._net.create_extractor()
        for spec, image in zip(self.inputs, images, strict=True):
            extractor.input(spec.name, _ncnn.Mat(image))
        return {spec.name: _extracted(extractor, spec) for spec in self.outputs}

    def profile(self, inputs: Mapping[str, NDArray[np.float32]], runs: int) -> Profile:
        check_inputs(self.inputs, inputs)
        layers = _layers(self._path)
        images = [(spec.name, np.ascontiguousarray(inputs[spec.name][0])) for spec in self.inputs]
        times: list[list[float]] = []
        run = partial(self._timed, layers, images, times)
        taken = [milliseconds(run) for _ in range(PROFILE_WARM_UP + runs)]
        rows = zip(layers, zip(*times[PROFILE_WARM_UP:], strict=True), strict=True)
        return Profile(
            tuple(OperatorTime(name, kind, values, (name,)) for (kind, name, _), values in rows),
            tuple(taken[PROFILE_WARM_UP:]),
        )

    def _timed(
        self,
        layers: list[tuple[str, str, str]],
        images: list[tuple[str, NDArray[np.float32]]],
        times: list[list[float]],
    ) -> None:
        """Adds the milliseconds of each layer of one run."""
        extractor = self._net.create_extractor()
        extractor.set_light_mode(False)
        for name, image in images:
            extractor.input(name, _ncnn.Mat(image))
        times.append([milliseconds(partial(extractor.extract, result, _AS_IT_IS)) for _, _, result in layers])

    def metadata(self) -> dict[str, str]:
        return dict(self._metadata)

    def close(self) -> None:
        self._net = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _extracted(extractor: Any, spec: TensorSpec) -> NDArray[np.float32]:
    """One output, with the batch axis that ncnn does not have.

    Raises:
        ArtifactError: ncnn cannot compute it, or it has another size than the file says.
    """
    status, found = extractor.extract(spec.name)
    values = np.array(found) if status == 0 else np.empty(0, np.float32)
    if values.size != np.prod(spec.shape):
        raise ArtifactError(f"ncnn does not compute the output {spec.name!r} of shape {spec.shape}: {values.shape}.")
    return values.reshape(spec.shape)


def _layers(path: Path) -> list[tuple[str, str, str]]:
    """Kind, name and first result of every layer that computes something: `kind name inputs outputs blobs...`."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()[2:] if not line.startswith(MARK)]
    return [(kind, name, rest[int(inputs)]) for kind, name, inputs, _, *rest in lines if kind != "Input"]


def load(path: Path, threads: int) -> Runner:
    """Loads a `.param` file and the `.bin` beside it."""
    try:
        _, mark, text = path.read_text(encoding="utf-8").rstrip().rpartition(MARK)
        described = read_description(text if mark else "")
        net = _net(threads, described.settings)
        weights = path.with_suffix(".bin")
        for file, load_part in ((path, net.load_param), (weights, net.load_model)):
            if load_part(str(file)):
                raise ValueError(f"ncnn cannot read {file.name}")  # noqa: TRY301 - reported like the other reasons
    except Exception as error:
        raise ArtifactError(f"ncnn does not load {path.name}: {first_line(error)}") from error
    return NcnnRunner(net, described, path)


def _net(threads: int, settings: Mapping[str, int]) -> Any:
    """A network without layers, in float32 and with the settings that a file may have."""
    net = _ncnn.Net()
    net.opt.num_threads = threads
    chosen = {option: value for option, value in settings.items() if option in _CHOICES}
    for option, value in {**dict.fromkeys(_NARROWER, False), **chosen}.items():
        setattr(net.opt, option, bool(value))
    return net
