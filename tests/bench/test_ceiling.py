"""The machine's ceiling, from small kernels: what is measured, in which arithmetic, and what follows from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

from edgekit.bench import ceiling as module
from edgekit.bench.ceiling import conclude, measure_ceiling
from edgekit.bench.ceiling_record import Bandwidth, Ceiling, ProductRate
from edgekit.bench.microbenchmarks import Kernel, kernels, memory_pass, onnxruntime_products, openvino_products
from edgekit.errors import EnvironmentProblemError

SIDE = 64
SETS = (1 << 12, 1 << 16)


def made(*, rates: Mapping[str, float], bandwidths: Mapping[int, float]) -> Ceiling:
    return Ceiling(
        threads=1,
        rounds=1,
        products=tuple(
            ProductRate(runtime="r", precision=precision, computes_in="k", side=8, gmacs=rate)
            for precision, rate in rates.items()
        ),
        bandwidths=tuple(Bandwidth(runtime="r", size=size, gbytes=rate) for size, rate in bandwidths.items()),
        versions={},
    )


def test_every_runtime_is_measured_in_both_precisions_and_survives_json() -> None:
    found = measure_ceiling(1, rounds=2, sides=(SIDE,), working_sets=SETS)
    assert {(each.runtime, each.precision) for each in found.products} == {
        (runtime, precision) for runtime in ("onnxruntime", "openvino") for precision in ("fp32", "int8")
    }
    assert [each.size for each in found.bandwidths] == list(SETS)
    assert all(each.gmacs > 0 for each in found.products)
    assert all(each.gbytes > 0 for each in found.bandwidths)
    assert set(found.versions) == {"onnxruntime", "openvino"}
    assert msgspec.json.decode(msgspec.json.encode(found), type=Ceiling) == found


def test_openvino_multiplies_in_the_arithmetic_it_is_asked_for() -> None:
    """It would take bf16 for float32 where the processor has it, and double the ceiling without a word."""
    single, quantized = openvino_products(1, 256)
    assert single.computes_in.lower().endswith("f32")
    assert quantized.computes_in.lower().endswith(("i8", "u8"))
    left = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    product = next(iter(single.call().values()))  # type: ignore[attr-defined]
    # bf16 keeps 8 bits of each factor: it would be off by 0.05 here.
    np.testing.assert_allclose(product, left.astype(np.float64) @ left, atol=1e-4)


def test_work_is_what_the_kernels_do() -> None:
    single, quantized = onnxruntime_products(1, SIDE)
    assert single.work == quantized.work == SIDE**3
    passed = memory_pass(1, 1 << 16)
    length = int(passed.computes_in.split()[0])
    assert passed.work == 2 * length * (1 << 16)


def test_a_longer_chain_over_a_smaller_tensor_moves_as_much() -> None:
    small, large = (memory_pass(1, size) for size in (1 << 18, 1 << 20))
    assert small.work == large.work
    assert (small.size, large.size) == (1 << 18, 1 << 20)


def test_rates_are_work_over_the_least_time() -> None:
    kernel = Kernel("onnxruntime", "fp32", 3_000_000, 8, "k", lambda: None)
    passed = Kernel("onnxruntime", "", 4_000_000, 1 << 20, "k", lambda: None)
    found = conclude(1, [kernel, passed], {0: [3.0, 1.5, 2.0], 1: [2.0, 4.0, 8.0]})
    assert found.gmacs("fp32") == pytest.approx(2.0)
    assert found.gbytes(1 << 20) == pytest.approx(2.0)
    assert found.rounds == 3


def test_an_operator_is_bound_by_what_it_has_more_of() -> None:
    found = made(rates={"fp32": 100.0, "int8": 400.0}, bandwidths={1 << 20: 50.0, 1 << 24: 10.0})
    assert found.fastest_ms(100_000_000, 1 << 10) == pytest.approx(1.0)
    assert found.fastest_ms(100_000_000, 1 << 10, "int8") == pytest.approx(0.25)
    assert found.fastest_ms(0, 1 << 24) == pytest.approx((1 << 24) / 10e6)
    assert found.fastest_ms(0, 0) == 0.0


def test_bandwidth_between_two_sizes_lies_between_theirs() -> None:
    found = made(rates={"fp32": 1.0}, bandwidths={1 << 24: 10.0, 1 << 20: 50.0})
    assert found.gbytes(1) == 50.0
    assert found.gbytes(1 << 22) == pytest.approx(30.0)
    assert found.gbytes(1 << 30) == 10.0


def test_a_runtime_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.bench.microbenchmarks.find_spec", lambda name: None if name == "openvino" else name)
    assert {kernel.runtime for kernel in kernels(1, (SIDE,), SETS)} == {"onnxruntime"}


def test_without_onnx_runtime_there_is_no_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.bench.microbenchmarks.find_spec", lambda _: None)
    with pytest.raises(EnvironmentProblemError, match=r"measured in ONNX Runtime.*pip install edgekit"):
        measure_ceiling(1)


def test_the_module_alone_loads_no_runtime() -> None:
    loaded = {name for name in vars(module) if name in ("onnxruntime", "openvino", "onnx", "torch")}
    assert loaded == set()


def test_a_memory_pass_goes_over_the_tensor_as_often_as_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A runtime that took two negations for nothing would seem twice as fast."""
    optimized = tmp_path / "optimized.onnx"
    original = onnxruntime.InferenceSession

    def keep(model: bytes, options: Any, **rest: Any) -> Any:
        options.optimized_model_filepath = str(optimized)
        return original(model, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", keep)
    passed = memory_pass(1, 1 << 22)
    nodes = [node.op_type for node in onnx.load(optimized).graph.node]
    assert passed.computes_in == f"{len(nodes)} x Neg float32"
    assert set(nodes) == {"Neg"}
