"""Checking a bundle: every artifact gets its verdict, and the worst of them decides."""

from pathlib import Path

import msgspec
import pytest

from edgekit.artifact import FileHash
from edgekit.bundle import Manifest, read_manifest
from edgekit.check import Verdict, check_bundle, conclude
from edgekit.errors import ArtifactError, BundleError, CheckFailedError, EdgekitError, MissingExtraError, ParityError


@pytest.fixture
def manifest(bundle: Path) -> Manifest:
    return read_manifest(bundle)


def with_members(manifest: Manifest, *names: str) -> Manifest:
    """The manifest with its artifact under other names, one of which may be right."""
    (member,) = manifest.members
    (file,) = member.artifact.files
    return msgspec.structs.replace(
        manifest,
        members=tuple(
            msgspec.structs.replace(
                member,
                artifact=msgspec.structs.replace(member.artifact, files=(msgspec.structs.replace(file, name=name),)),
            )
            for name in names
        ),
    )


def test_a_sound_bundle_has_no_problem(bundle: Path, manifest: Manifest) -> None:
    (verdict,) = check_bundle(bundle, manifest)

    assert verdict.name == "parcnetv2_xt.fp32.onnx"
    assert verdict.problem is None
    assert [case.case for case in verdict.parity] == ["noise", "natural", "edges", "flat"]
    assert verdict.parity == manifest.members[0].parity
    conclude([verdict])


def test_every_artifact_is_checked(bundle: Path, manifest: Manifest) -> None:
    verdicts = check_bundle(bundle, with_members(manifest, "gone", "parcnetv2_xt.fp32.onnx", "gone too"))

    assert [verdict.problem is None for verdict in verdicts] == [False, True, False]
    with pytest.raises(ArtifactError, match=r"^gone is missing"):
        conclude(verdicts)


def test_nothing_to_check_is_no_success(bundle: Path, manifest: Manifest) -> None:
    with pytest.raises(CheckFailedError, match="holds no artifact, so there is nothing to verify"):
        check_bundle(bundle, with_members(manifest))


def test_without_a_reference_nothing_can_be_said(bundle: Path, manifest: Manifest) -> None:
    nowhere = msgspec.structs.replace(manifest, reference=FileHash(name="nowhere", size=0, sha256=""))

    with pytest.raises(ArtifactError, match="nowhere is missing"):
        check_bundle(bundle, nowhere)


def test_a_damaged_reference_is_a_damaged_bundle(bundle: Path, manifest: Manifest) -> None:
    artifact = manifest.members[0].artifact.files[0]

    with pytest.raises(BundleError, match="is no reference of a bundle"):
        check_bundle(bundle, msgspec.structs.replace(manifest, reference=artifact))


MISSING = MissingExtraError("openvino", "openvino", "Running it")


@pytest.mark.parametrize(
    ("problems", "raised"),
    [
        ([None, None], None),
        ([None, ParityError("p")], ParityError),
        ([MISSING, None], MissingExtraError),
        ([MISSING, ParityError("p")], ParityError),
        ([ParityError("p"), ArtifactError("a"), MISSING], ParityError),
    ],
    ids=["sound", "parity", "missing", "parity-weighs-more", "first-of-a-kind"],
)
def test_the_worst_problem_decides(problems: list[EdgekitError | None], raised: type[EdgekitError] | None) -> None:
    verdicts = [Verdict(str(index), (), problem) for index, problem in enumerate(problems)]

    if raised is None:
        conclude(verdicts)
    else:
        with pytest.raises(raised):
            conclude(verdicts)
