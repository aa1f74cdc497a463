"""ncnn on the CPU, in float32: storage and arithmetic in half precision or bfloat16, its default, are switched off."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import ncnn
import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.errors import ArtifactError, EnvironmentProblemError, first_line
from edgekit.runners.base import Description, Profile, Runner, Tensors, check_inputs, read_description

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


class NcnnRunner:
    """A network of ncnn, and what the exporter wrote about it."""

    def __init__(self, net: Any, described: Description) -> None:
        self._net: Any = net
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

    def profile(self, inputs: Mapping[str, NDArray[np.float32]], runs: int) -> Profile:  # noqa: ARG002 - the contract
        raise EnvironmentProblemError("ncnn's Python package has no profiler. Profile another format of the bundle.")

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
    return NcnnRunner(net, described)


def _net(threads: int, settings: Mapping[str, int]) -> Any:
    """A network without layers, in float32 and with the settings that a file may have."""
    net = _ncnn.Net()
    net.opt.num_threads = threads
    chosen = {option: value for option, value in settings.items() if option in _CHOICES}
    for option, value in {**dict.fromkeys(_NARROWER, False), **chosen}.items():
        setattr(net.opt, option, bool(value))
    return net
