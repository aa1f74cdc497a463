"""Shared by the tests of the passes: a network whose kernels are interpolated, and the same with them folded."""

import pytest
from torch import nn

from edgekit.artifact import Certificate
from edgekit.passes.base import Proven, prove
from edgekit.passes.materialise import FoldConstants
from edgekit.program import Program

pytest.register_assert_rewrite("tests.passes.fusing", "tests.passes.materialising")  # they check what they hand out

from tests.passes.materialising import LARGE, ROUNDED_ONCE_DB, probes, proved, random_network  # noqa: E402


@pytest.fixture(scope="package")
def interpolated() -> tuple[nn.Module, Program]:
    return random_network("interpolate", LARGE)


@pytest.fixture(scope="package")
def folded(interpolated: tuple[nn.Module, Program]) -> tuple[Proven, Certificate]:
    return proved(FoldConstants(), prove(interpolated[1], probes(LARGE)), LARGE, ROUNDED_ONCE_DB)
