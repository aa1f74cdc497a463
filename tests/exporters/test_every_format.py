"""What holds for every format: equal bytes whoever writes them, and a converter's failure is one clear error."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import TensorSpec
from edgekit.capture import capture
from edgekit.errors import ConverterError
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.network import Network

Artifact = Callable[[str], tuple[Candidate, ...]]
Write = Callable[[Network, str, Path], tuple[Candidate, ...]]

every_format = pytest.mark.parametrize("name", EXPORTERS)


@pytest.mark.slow
@every_format
def test_the_bytes_do_not_depend_on_what_the_process_did_before(
    name: str, tiny_artifact: Artifact, sliver_artifact: Artifact, sliver_of_a_fresh_process: Path
) -> None:
    tiny_artifact(name)  # so that the second export here meets the first one there
    for candidate in sliver_artifact(name):
        for file in candidate.files:
            assert (sliver_of_a_fresh_process / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
@every_format
def test_exporting_again_gives_the_same_bytes(
    name: str, tiny: Network, tiny_artifact: Artifact, write: Write, tmp_path: Path
) -> None:
    for before, again in zip(tiny_artifact(name), write(tiny, name, tmp_path), strict=True):
        assert [file.read_bytes() for file in before.files] == [file.read_bytes() for file in again.files]


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.special.bessel_j0(x)
        return result


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("onnx", r"torch\.onnx\.export could not convert the program: "),
        ("openvino", "OpenVINO could not convert the program: "),
        ("tflite", "litert-torch could not convert the program: "),
        ("mnn", r"torch\.onnx\.export could not convert the program: "),
        ("ncnn", r"ncnn has no layer for [^,]+, which pnnx left in its file\. Write that in other operators "),
    ],
)
def test_an_operator_that_a_format_lacks_is_the_converters_failure(name: str, words: str, tmp_path: Path) -> None:
    program = capture(Unknown().eval(), (1, 4))
    spec = ExportSpec((TensorSpec(name="input", shape=(1, 4)),), (TensorSpec(name="logits", shape=(1, 4)),), {})
    with pytest.raises(ConverterError, match=words) as caught:
        EXPORTERS[name].load()(program, spec, tmp_path, "net")
    assert "bessel_j0" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
