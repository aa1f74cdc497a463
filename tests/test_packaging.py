"""What leaves the repository: the packages, the wheel, the pins and the version."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from fnmatch import fnmatch
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgekit import __version__

ROOT = Path(__file__).parents[1]
LINKED = ("exporters", "quant", "targets")
FOLDERS = ("edgekit", *LINKED)


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def installed_name(path: Path) -> str:
    """Where a file of the repository is once it is installed."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts if parts[0] == "edgekit" else ("edgekit", *parts))


def shipped_files() -> set[str]:
    """Every file of the four folders that is installed. The links inside edgekit/ are not followed."""
    files = (
        file
        for folder in FOLDERS
        for ending in ("c", "css", "html", "js", "json", "py", "safetensors", "toml")
        for file in (ROOT / folder).rglob(f"*.{ending}")
    )
    return {installed_name(file) for file in files}


def copy_repository(to: Path) -> None:
    """Copies what git tracks or would track. Built in place, setuptools packs whatever an old build/ holds along."""
    git = shutil.which("git")
    assert git, "git is missing; it knows which files belong to the project"
    command = [git, "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listing.stdout.split("\0"):
        if name and os.path.lexists(ROOT / name):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name, follow_symlinks=False)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source archive built from a clean copy, and the wheel built from that archive, without network."""
    need = Requirement(pyproject()["build-system"]["requires"][0])
    assert need.specifier.contains(version(need.name)), f"this environment lacks {need}; `make test` has it"
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    copy_repository(source)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    (path,) = dist.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("name", LINKED)
def test_linked_package_is_the_folder_beside_edgekit(name: str) -> None:
    link = ROOT / "edgekit" / name
    assert link.is_symlink(), f"edgekit/{name} must be a git link; see CONTRIBUTING.md"
    assert link.readlink() == Path("..") / name
    (location,) = import_module(f"edgekit.{name}").__path__
    assert Path(location).resolve() == ROOT / name


def test_no_folder_of_tests_is_hidden_from_pytest(pytestconfig: pytest.Config) -> None:
    folders = {file.parent.name for file in (ROOT / "tests").rglob("test_*.py")}
    hidden = [name for name in folders for pattern in pytestconfig.getini("norecursedirs") if fnmatch(name, pattern)]
    assert hidden == []


def test_every_package_directory_is_listed() -> None:
    directories = {file.rpartition("/")[0].replace("/", ".") for file in shipped_files() if file.endswith(".py")}
    assert directories == set(pyproject()["tool"]["setuptools"]["packages"])


def test_wheel_holds_exactly_the_files_of_the_four_folders(wheel: zipfile.ZipFile) -> None:
    content = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert content == shipped_files() | {"edgekit/py.typed"}


def test_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    info = f"edgekit-{__version__}.dist-info"
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "edgekit = edgekit.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_wheel_runs_without_the_repository(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    for name in wheel.namelist():
        wheel.extract(name, tmp_path / "installed")
    code = "import edgekit, sys; print(edgekit.__file__, file=sys.stderr); from edgekit.cli import cli; cli()"
    process = subprocess.run(
        [sys.executable, "-c", code, "targets", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(process.stderr.strip()) == tmp_path / "installed" / "edgekit" / "__init__.py"
    boards = {path.stem for path in (ROOT / "targets" / "boards").glob("*.toml")}
    assert {target["name"] for target in json.loads(process.stdout)["targets"]} == boards


def test_source_archive_holds_the_sources(dist: Path) -> None:
    with tarfile.open(dist / f"edgekit-{__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(file.relative_to(ROOT)) for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")}
    assert sources | {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_version_is_written_once() -> None:
    written = re.compile(rf"(?<![\w.]){re.escape(__version__)}(?![\w.])")
    files = (file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
    places = [file for file in (*files, ROOT / "pyproject.toml", ROOT / "Makefile") if written.search(file.read_text())]
    assert places == [ROOT / "edgekit" / "version.py"]


def test_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == __version__
    assert len(headings) == len(set(headings))


PIN = re.compile(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)")


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    matches = {line: PIN.fullmatch(line) for line in lines}
    unreadable = [line for line, match in matches.items() if match is None]
    assert not unreadable, f"constraints.txt: not an exact version, or one build of it: {unreadable}"
    return {canonicalize_name(match[1]): match[2] for match in matches.values() if match}


def declared() -> list[Requirement]:
    """The requirements in pyproject.toml: of building, of running, and of every extra."""
    content = pyproject()
    extras = content["project"]["optional-dependencies"].values()
    texts = (content["build-system"]["requires"], content["project"]["dependencies"], *extras)
    return [Requirement(text) for group in texts for text in group if not text.startswith("edgekit[")]


def needed(requirement: Requirement) -> list[Requirement]:
    """What an installed distribution needs here; one that is not installed tells nothing."""
    try:
        texts = requires(requirement.name) or []
    except PackageNotFoundError:
        return []
    extras = requirement.extras or {""}
    found = [Requirement(text) for text in texts]
    return [need for need in found if not need.marker or any(need.marker.evaluate({"extra": e}) for e in extras)]


def test_pins_are_what_pyproject_allows() -> None:
    pinned = pins()
    misfits = [
        str(need) for need in declared() if not need.specifier.contains(pinned.get(canonicalize_name(need.name), "0"))
    ]
    assert misfits == []


def test_everything_that_gets_installed_is_pinned() -> None:
    pinned, seen, open_ends = pins(), set[str](), declared()
    while open_ends:
        requirement = open_ends.pop()
        # torch pins its own CUDA packages, exactly, and only one of its builds has them.
        if str(requirement) not in seen and not re.match(r"cuda|nvidia|triton", requirement.name):
            seen.add(str(requirement))
            open_ends += needed(requirement)
    names = {canonicalize_name(Requirement(text).name) for text in seen}
    assert names - set(pinned) == set()


def test_pins_are_sorted() -> None:
    names = [line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    names = [name for name in names if not name.startswith("#")]
    assert names == sorted(names)
