"""Shared by all tests: two small networks with everything a real one has, captured, proved and exported once a session.

`tiny` is a whole ParCNetV2 with one block per stage; `sliver` is the smallest that still has a block, a scaled skip and
a down-sampling, for tests that export several times. `exported` is the bundle that the command line makes of the
smallest published network, `bundle` a copy of it. All but the copy are shared, so a test never writes to them.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads: threads that wait spinning slow all others

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from torch.onnx._internal.exporter import _registration

from edgekit.artifact import TensorSpec
from edgekit.bundle import MANIFEST
from edgekit.capture import capture, output_specs
from edgekit.cli import cli
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.inputs import generate
from edgekit.intake.zoo import INPUT_NAME
from edgekit.models.build import build
from edgekit.models.parcnetv2 import ParCNetV2, ParCNetV2Config
from edgekit.models.weights import random_weights
from edgekit.network import Network, StageClock, lower, numpy_forward, prepare, rewrite
from edgekit.passes.materialise import MATERIALISE
from edgekit.plan import Plan
from edgekit.program import Program
from edgekit.reference import model_in_float64
from edgekit.verify import reference
from tests.kernels import MIXER

REPOSITORY = Path(__file__).parents[1]

TINY = ParCNetV2Config(widths=(8, 12, 16, 24), depths=(1, 1, 1, 1), num_classes=10)
SLIVER = ParCNetV2Config(widths=(4, 4, 8, 4), depths=(0, 0, 1, 0), num_classes=5)

METADATA = {
    "edgekit.model": "tiny",
    "edgekit.input": "1x3x64x64",
    "edgekit.weights": '{"seed":0,"name":"größer, \\"so\\""}',
}
"""What the exporters are given to write: plain text, JSON with quotes, and letters beyond ASCII."""

Write = Callable[[Network, str, Path], tuple[Candidate, ...]]
"""(network, format, folder) to the candidates written there."""

BUSY = "import os, time\nend = time.monotonic() + 60\nwhile os.getppid() == {parent} and time.monotonic() < end: pass"
"""A loop that ends with the process that started it, or after a minute."""

FRESH_PROCESS = """
import sys
from pathlib import Path
from tests.conftest import SLIVER, make_network, write_artifact
network = make_network(SLIVER, 32)
for name in sys.argv[2:]:
    write_artifact(network, name, Path(sys.argv[1]))
"""


LONGEST = "tests/test_verify.py::"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def make_network(config: ParCNetV2Config, side: int) -> Network:
    """A network with random weights, as far as all runtimes share: what `edgekit.network.prepare` does for a card."""
    model = ParCNetV2(config).eval()
    weights = random_weights(model, seed=0)
    inputs = (TensorSpec(name=INPUT_NAME, shape=(1, 3, side, side), layout="NCHW"),)
    captured = capture(model, inputs[0].shape)
    exact, rounded = numpy_forward(model_in_float64(model)), numpy_forward(model)
    against = reference(inputs, output_specs(captured), generate(inputs), exact, rounded)
    return rewrite(captured, weights, against, {"materialise": MATERIALISE}, lambda _: nullcontext())


def export_program(network: Network, program: Program, name: str, folder: Path) -> tuple[Candidate, ...]:
    """Writes a program as the lowered program of a network in one format."""
    spec = ExportSpec(network.reference.inputs, network.reference.outputs, METADATA)
    return EXPORTERS[name].load()(program, spec, folder, "net")


def write_artifact(network: Network, name: str, folder: Path) -> tuple[Candidate, ...]:
    """Lowers and writes a network in one format."""
    program = lower(network, EXPORTERS[name].runtime, "fp32").program
    return export_program(network, program, name, folder)


@pytest.fixture(scope="session", autouse=True)
def known_operators() -> Iterator[None]:
    """Tests export hundreds of networks, and torch parses the source of all operators it can write for each of them."""
    apis = vars(_registration)["onnxscript_apis"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apis, "get_torchlib_ops", cache(apis.get_torchlib_ops))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing a user has tuned decides in a test, nor in what tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_TUNING", str(tmp_path_factory.mktemp("tuning")))
        yield


@pytest.fixture(autouse=True)
def tuning_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test keeps what it tunes; made by whoever writes there."""
    folder = tmp_path / "tuning"
    monkeypatch.setenv("EDGEKIT_TUNING", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny() -> Network:
    """A whole network at 64 x 64, materialised."""
    return make_network(TINY, 64)


@pytest.fixture(scope="session")
def sliver() -> Network:
    """A single block at 32 x 32, materialised."""
    return make_network(SLIVER, 32)


@pytest.fixture(scope="session")
def smallest() -> Program:
    """The smallest published network, captured at its own size; its weights are not set."""
    return capture(build("parcnetv2_xt", None), (1, 3, 224, 224))


@pytest.fixture(scope="session")
def write() -> Write:
    """Lowers and writes a network in one format."""
    return write_artifact


@pytest.fixture(scope="session")
def write_program() -> Callable[[Network, Program, str, Path], tuple[Candidate, ...]]:
    """Writes another program in the place of a network's own."""
    return export_program


@pytest.fixture(scope="session")
def metadata() -> Mapping[str, str]:
    """What every exported file says about itself."""
    return METADATA


@pytest.fixture(scope="session")
def tiny_artifact(tiny: Network, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Candidate, ...]]:
    """Format to the candidates of `tiny`, written when first asked for."""
    return _once(tiny, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def sliver_artifact(
    sliver: Network, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Candidate, ...]]:
    """Format to the candidates of `sliver`, written when first asked for."""
    return _once(sliver, tmp_path_factory.mktemp("sliver"))


def _once(network: Network, folder: Path) -> Callable[[str], tuple[Candidate, ...]]:
    written: dict[str, tuple[Candidate, ...]] = {}

    def candidates(name: str) -> tuple[Candidate, ...]:
        if name not in written:
            written[name] = write_artifact(network, name, folder)
        return written[name]

    return candidates


@pytest.fixture(scope="session")
def sliver_of_a_fresh_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `sliver` in every format, written by another process with other hash seeds."""
    folder = tmp_path_factory.mktemp("fresh")
    process = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(folder), *sorted(EXPORTERS, reverse=True)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return folder


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle the command line made, and what it made it with.

    Attributes:
        arguments: What was typed after `edgekit export`, without the place.
        network: The network as it was prepared on the way.
        output: What the command printed.
    """

    arguments: tuple[str, ...]
    folder: Path
    cache: Path
    network: Network
    output: str


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The smallest published network at 32 x 32 in ONNX, with a cache of its own."""
    root = tmp_path_factory.mktemp("exported")
    arguments = ("parcnetv2_xt", "--input", "32", "--format", "onnx")
    made: list[Network] = []

    def prepare_and_keep(plan: Plan, stage: StageClock) -> Network:
        made.append(prepare(plan, stage))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(root / "cache"))
        patch.setattr("edgekit.network.prepare", prepare_and_keep)
        line = ["export", *arguments, "-o", str(root / "bundle")]
        result = CliRunner().invoke(cli, line, prog_name="edgekit", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Exported(arguments, root / "bundle", root / "cache", made[0], result.stdout)


@pytest.fixture
def mixer(tmp_path: Path) -> str:
    """What names a small network of a user's own with one group of large kernels, `tests.kernels.MIXED`."""
    path = tmp_path / "mixer.py"
    path.write_text(MIXER)
    return f"{path}:build"


@pytest.fixture
def bundle(exported: Exported, tmp_path: Path) -> Path:
    """A copy of the exported bundle to damage. The artifact is a link: put another in its place, do not write to it."""
    copy = tmp_path / "bundle"
    shutil.copytree(exported.folder, copy, ignore=shutil.ignore_patterns("*.onnx"))
    for artifact in exported.folder.glob("*.onnx"):
        (copy / artifact.name).hardlink_to(artifact)
    return copy


@pytest.fixture
def twin(bundle: Path, tmp_path: Path) -> Path:
    """The exported bundle again, but said to be of other weights, with another artifact."""
    folder = tmp_path / "twin"
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["weights"].update(seed=7)
    manifest["members"][0]["artifact"]["files"][0].update(sha256="f" * 64, size=1000)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def busy() -> Iterator[Callable[[int], None]]:
    """Starts busy loops, which end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(count: int) -> None:
        code = BUSY.format(parent=os.getpid())
        started.extend(subprocess.Popen([sys.executable, "-c", code]) for _ in range(count))

    yield start
    for process in started:
        process.kill()
        process.wait()
