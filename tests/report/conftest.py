"""A bundle that holds something for every section, and Chromium to look at its page with."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from playwright.sync_api import Browser, sync_playwright

from edgekit.artifact import WeightsSource
from edgekit.bench.record import Level
from edgekit.bench.store import write_profiles, write_run
from edgekit.bundle import read_manifest, write_manifest
from edgekit.evaluation.compare import alone, beside
from edgekit.evaluation.record import Evaluation
from edgekit.evaluation.store import write_evaluation
from edgekit.report.compose import compose
from edgekit.report.gather import gather
from edgekit.report.page import html
from tests.bench.figures import measurement, profile_run_of, run_of
from tests.conftest import Exported
from tests.evaluation.images import answered, blank, evaluation, one_hot, subset

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
"""A browser of its own accord asks its maker for news; this one is watched for every request."""

MEDIANS = (10.0, 10.1, 10.0, 10.2, 10.1, 10.0)


@pytest.fixture(scope="session")
def full(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that was measured, profiled and evaluated; it is only read."""
    bundle = tmp_path_factory.mktemp("full") / "bundle"
    shutil.copytree(exported.folder, bundle)
    trained(bundle)
    measure(bundle)
    (member,) = read_manifest(bundle).members
    write_profiles(profile_run_of(member.artifact.sha256), bundle)
    evaluate(bundle, lost=40)
    return bundle


@pytest.fixture(scope="session")
def page_file(full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the full bundle."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html(compose(gather([full]))))
    return path


def measure(bundle: Path, *, level: Level = "TRUSTED", factor: float = 1.0, **changes: Any) -> None:
    """Stores a run of the bundle's one artifact."""
    (member,) = read_manifest(bundle).members
    one = measurement(
        [factor * each for each in MEDIANS],
        sha256=member.artifact.sha256,
        level=level,
    )
    write_run(run_of(one, **changes), bundle)


def trained(bundle: Path) -> None:
    """Says that the bundle's weights are from a file; accuracy means nothing with random ones."""
    weights = WeightsSource(kind="file", file_name="net.safetensors", sha256="f" * 64)
    write_manifest(structs.replace(read_manifest(bundle), weights=weights), bundle)


LABELS = [0, 1] * 200


def evaluate(bundle: Path, lost: int, **changes: Any) -> Evaluation:
    """Stores an evaluation in which the bundle's artifact loses so many of 400 images that torch has right."""
    (member,) = read_manifest(bundle).members
    first, images = answered(one_hot(LABELS)), subset(LABELS)
    own = answered(one_hot([2] * lost + LABELS[lost:]))
    name = member.artifact.files[0].name
    steps = (
        alone(blank("torch fp32", "c" * 64, ""), first, images),
        beside(blank(name, member.artifact.sha256), first, own, images, 0.5),
    )
    made = structs.replace(evaluation(*steps), **changes)
    write_evaluation(made, bundle)
    return made


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real browser, of the system: Playwright's own would have to be downloaded."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is installed ({', '.join(BROWSERS)}); on Debian: apt install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield opened
        opened.close()
