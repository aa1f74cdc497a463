"""Every form of every kind of group: the same map, at the cost that is known, and a wrong tap is found."""

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgekit.artifact import Certificate
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.kernel_group import Candidate, KernelGroup, KernelStep, candidates
from edgekit.numerics import snr_db
from edgekit.passes.base import Log, Proven, apply, prove
from edgekit.passes.lower.kernel_forms import KernelForms
from edgekit.passes.lower.kernel_sites import StepSite, find_groups, weights
from edgekit.program import Program, clone, constants, finish, operator_counts, operators, stats
from edgekit.reference import program_in_float64
from edgekit.tune.probe import KernelNetwork, probe_program, probe_shape
from tests.kernels import GROUPS, group, same
from tests.passes.materialising import EXACT_DB, ROUNDED_ONCE_DB, image, probes, proved

ALL = [pytest.param(name, way, id=f"{name}: {way}") for name, found in GROUPS.items() for way in candidates(found)]
OTHERS = [
    pytest.param(name, way, id=f"{name}: {way}")
    for name, found in GROUPS.items()
    for way in candidates(found)
    if way != "depthwise"
]


@cache
def trained(name: str) -> Proven:
    """The test network of a group as trained."""
    return prove(probe_program(GROUPS[name]), probes(probe_shape(GROUPS[name])))


@cache
def written(name: str, way: str) -> tuple[Program, Certificate]:
    """The same with the group in a form, proved."""
    found = GROUPS[name]
    gate_db = EXACT_DB if copies(found, candidates(found)[way]) else ROUNDED_ONCE_DB
    after, certificate = proved(KernelForms((way,)), trained(name), probe_shape(found), gate_db)
    return after.program, certificate


def copies(of: KernelGroup, way: Candidate) -> bool:
    """Whether the numbers of a form are the kernel's own: nothing is multiplied or added to get them."""
    return way.whole is None or len(of.steps) == 1


def group_bytes(program: Program) -> int:
    """Bytes of the constants of a test network beside those of the two layers around the group."""
    around = ("before.", "after.")
    return sum(value.nbytes for name, value in constants(program) if not name.startswith(around))


@pytest.mark.parametrize(("name", "way"), ALL)
def test_a_form_is_the_same_map_and_takes_the_bytes_that_were_said(name: str, way: str) -> None:
    found = GROUPS[name]
    program, certificate = written(name, way)

    assert bool(certificate.fired) == (way != "depthwise")
    assert group_bytes(program) == candidates(found)[way].bytes
    result = program.graph.output_node().all_input_nodes[0].meta["val"]
    assert tuple(result.shape) == (1, found.channels, *found.output)
    assert all(node.meta.get("nn_module_stack") for node in operators(program))


@pytest.mark.parametrize(("name", "way"), OTHERS)
def test_one_wrong_tap_is_found(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(program: Program, site: StepSite) -> tuple[Tensor, Tensor | None]:
        weight, bias = weights(program, site)
        bent = weight.clone()
        bent[1, 0, weight.shape[2] // 2, weight.shape[3] // 2] *= 1.01
        return bent, bias

    forms = ("toeplitz", "kernel_pieces", "kernel_rows", "kernel_polyphase", "dense_kernel", "pixel_matrix")
    for form in forms:
        monkeypatch.setattr(f"edgekit.passes.lower.{form}.weights", wrong)
    with pytest.raises(ParityError, match="Pass 'kernel-forms' changed the network"):
        apply(KernelForms((way,)), trained(name), probes(probe_shape(GROUPS[name])), gate_db=100.0)


BLOCKS = {"constant_pad_nd": 1, "reshape": 4, "permute": 2, "conv2d": 1}
"""What polyphase takes, before the map is cut to size."""

OPERATORS = {
    ("row", "toeplitz"): ({"toeplitz": 1}, {"matmul": 1, "add": 1}, 9 * 7 * 7),
    ("row", "matmul"): ({"matmul": 1}, {"reshape": 2, "matmul": 1, "add": 1}, 63 * 63),
    ("strided row", "toeplitz"): ({"toeplitz": 1}, {"matmul": 1}, 9 * 7 * 4),
    ("plane", "pieces"): ({"pieces": 1}, {"conv2d": 3, "add": 2}, 63 * 49),
    ("plane", "rows"): ({"rows": 1}, {"constant_pad_nd": 1, "slice": 7, "cat": 1, "matmul": 1, "add": 1}, 63 * 7 * 7),
    ("unpadded plane", "rows"): ({"rows": 1}, {"slice": 7, "cat": 1, "matmul": 1, "add": 1}, 3 * 3 * 7 * 7),
    ("strided plane", "rows"): (
        {"rows": 1},
        {"constant_pad_nd": 1, "slice": 7, "cat": 1, "matmul": 1, "add": 1},
        5 * 4 * 7 * 7,
    ),
    ("plane", "polyphase"): ({"polyphase": 1}, BLOCKS | {"slice": 2}, 12 * 8 * 16 * 3 * 3),
    ("wide plane", "polyphase"): ({"polyphase": 1}, BLOCKS | {"slice": 2}, 12 * 8 * 16 * 2 * 4),
    ("unpadded plane", "polyphase"): ({"polyphase": 1}, BLOCKS | {"slice": 2}, 4 * 4 * 16 * 3 * 2),
    ("dilated plane", "polyphase"): ({"polyphase": 1}, BLOCKS | {"slice": 2}, 12 * 8 * 16 * 6 * 6),
    ("even plane", "polyphase"): ({"polyphase": 1}, BLOCKS | {"slice": 1}, 12 * 8 * 16 * 3 * 3),
    ("cross", "polyphase"): (
        {"polyphase": 2},
        {"constant_pad_nd": 2, "reshape": 8, "permute": 4, "conv2d": 3, "slice": 4, "add": 2},
        12 * 8 * 16 * 2 * (5 * 2) + 63 * 25,
    ),
    ("pair", "toeplitz"): ({"toeplitz": 2}, {"matmul": 2}, 63 * (9 + 7)),
    ("pair and local", "toeplitz + pieces"): (
        {"toeplitz": 2, "pieces": 1},
        {"matmul": 2, "conv2d": 3, "add": 4},
        63 * (9 + 7 + 49),
    ),
    ("pair and local", "depthwise + pieces"): ({"pieces": 1}, {"conv2d": 5, "add": 3}, 63 * (17 + 13 + 49)),
    ("pair and local", "toeplitz + depthwise"): ({"toeplitz": 2}, {"matmul": 2, "conv2d": 1, "add": 2}, 63 * 65),
    ("pair and local", "dense"): ({"dense": 1}, {"conv2d": 1}, 63 * 17 * 13),
    ("cross", "pieces"): ({"pieces": 1}, {"conv2d": 6 + 2, "add": 5 + 2}, 63 * (75 + 75 + 25)),
    ("circular pair", "depthwise"): ({}, {"narrow": 2, "cat": 2, "conv2d": 2}, 63 * (9 + 7)),
    ("circular pair", "toeplitz"): ({"toeplitz": 2}, {"matmul": 2, "add": 1}, 63 * (9 + 7)),
    ("circular pair", "matmul"): ({"matmul": 1}, {"reshape": 2, "matmul": 1, "add": 1}, 63 * 63),
    ("torus", "depthwise"): ({}, {"pad": 1, "conv2d": 1}, 63 * 15),
    ("torus", "matmul"): ({"matmul": 1}, {"reshape": 2, "matmul": 1, "add": 1}, 63 * 63),
}
"""Group and way to what fired, the operators beside the two layers and the ReLU, and the MACs of one channel."""


@pytest.mark.parametrize(("name", "way"), OPERATORS, ids=": ".join)
def test_what_a_form_is_made_of_and_what_it_multiplies(name: str, way: str) -> None:
    fired, expected, macs = OPERATORS[name, way]
    found = GROUPS[name]
    program, certificate = written(name, way)

    around = {"conv2d": 2, "relu": 1}
    counts = operator_counts(program)
    counts.subtract(around)
    assert certificate.fired == fired
    assert +counts == expected
    pixels = found.size[0] * found.size[1] + found.output[0] * found.output[1]
    assert certificate.after.macs == found.channels * (macs + found.channels * pixels)
    assert certificate.after.parameters == stats(program).parameters


# -- several groups ---------------------------------------------------------------------------------------------------


class Read(nn.Module):
    """Two groups, the second over the first's result, which something else reads too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 7, padding=3, groups=4)
        self.row = nn.Conv2d(4, 4, (1, 13), padding=(0, 6), groups=4)
        self.column = nn.Conv2d(4, 4, (17, 1), padding=(8, 0), groups=4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(torch.relu(x))
        z: Tensor = self.column(self.row(y)) * y
        return z


@pytest.mark.parametrize("first", ["pieces", "rows", "polyphase", "matmul", "depthwise"])
@pytest.mark.parametrize("second", ["toeplitz", "matmul", "depthwise"])
def test_a_group_reads_what_another_one_became(first: str, second: str) -> None:
    shape = (2, 4, 9, 7)
    before = prove(capture(Read().eval(), shape), probes(shape))
    assert [str(site.group) for site in find_groups(before.program)] == [
        "4 at 9x7: 7x7 biased",
        "4 at 9x7: 1x13 biased > 17x1 biased",
    ]

    after, _ = proved(KernelForms((first, second)), before, shape, ROUNDED_ONCE_DB)

    trained = {str(node.args[1]) for node in operators(after.program) if node.target is torch.ops.aten.conv2d.default}
    assert ("first_weight" in trained) == (first == "depthwise")  # the convolution is gone, not computed twice
    assert ("row_weight" in trained) == (second == "depthwise")


def test_each_group_needs_a_form() -> None:
    program = clone(probe_program(GROUPS["row"]))
    with pytest.raises(ValueError, match="longer"):
        KernelForms(("toeplitz", "toeplitz"))(program, Log())


# -- any group --------------------------------------------------------------------------------------------------------


@st.composite
def random_steps(draw: st.DrawFn) -> KernelStep:
    """One convolution along an axis or across both, zero-padded or circular."""
    shape = draw(st.sampled_from(("row", "column", "plane")))
    taps = tuple(draw(st.integers(1 if shape == "plane" else 2, 8)) for _ in range(2))
    taps = {"row": (1, taps[1]), "column": (taps[0], 1), "plane": taps}[shape]
    options: dict[str, Any] = {"bias": draw(st.booleans())}
    if draw(st.integers(0, 3)) == 0:
        before, after = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
        options["wrap"] = {"row": (0, 0, before, after), "column": (before, after, 0, 0)}.get(shape, (before,) * 4)
    elif draw(st.booleans()):
        options["dilation"] = tuple(draw(st.sampled_from((1, 1, 2))) for _ in range(2))
        options["padding"] = tuple(factor * (side // 2) for factor, side in zip(options["dilation"], taps, strict=True))
    else:
        options["stride"] = tuple(draw(st.sampled_from((1, 1, 2))) for _ in range(2))
        options["padding"] = tuple(draw(st.integers(0, side // 2)) for side in taps)
    return KernelStep(taps=(taps[0], taps[1]), **options)


@st.composite
def random_groups(draw: st.DrawFn) -> KernelGroup:
    """Up to three chains; one that has another size than the first is left out, as no sum of them can be meant."""
    size = (draw(st.integers(4, 12)), draw(st.integers(4, 12)))
    drawn = draw(st.lists(st.lists(random_steps(), min_size=1, max_size=2), min_size=1, max_size=3))
    chains = [chain for chain in map(tuple, drawn) if possible(chain, size)] or [(same(1, 5),)]
    result = group(chains[0], size=size).output
    return group(*(chain for chain in chains if group(chain, size=size).output == result), size=size)


def possible(chain: tuple[KernelStep, ...], size: tuple[int, int]) -> bool:
    """Whether every kernel has somewhere to stand, and no more is repeated than there is."""
    for step in chain:
        fits = all(
            size[axis] >= max(step.wraps(axis))
            and size[axis] + sum(step.wraps(axis)) + 2 * step.padding[axis] >= step.reach[axis]
            for axis in (0, 1)
        )
        if not fits:
            return False
        size = step.output(size)
    return True


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(found=random_groups(), batch=st.integers(1, 2))
def test_random_groups_are_the_same_in_every_form(found: KernelGroup, batch: int) -> None:
    check_random_group(found, batch)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(found=random_groups(), batch=st.integers(1, 3))
def test_many_random_groups_are_the_same_in_every_form(found: KernelGroup, batch: int) -> None:
    check_random_group(found, batch)


def check_random_group(found: KernelGroup, batch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgekit.passes.lower.kernel_sites.SMALL_TAPS", 0)
        torch.manual_seed(0)
        shape = (batch, *probe_shape(found)[1:])
        program = capture(KernelNetwork(found).eval(), shape)
        (site,) = find_groups(program)
        assert site.group == found
        exact = output(program, image(shape))
        for way, candidate in candidates(found).items():
            after = clone(program)
            KernelForms((way,))(after, Log())
            finish(after)
            assert snr_db(exact, output(after, image(shape))) >= ROUNDED_ONCE_DB, way
            assert group_bytes(after) == candidate.bytes, way


def output(program: Program, x: Tensor) -> Any:
    return program_in_float64(program)(x)[0].numpy()
