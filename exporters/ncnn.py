"""ncnn, through TorchScript and pnnx: a `.param` file that lists the layers, and a `.bin` with their weights.

Blobs are named after the network's inputs and outputs. The format has no place for metadata, but ncnn reads as many
lines as the second line says there are layers: names, shapes and metadata follow as a last line, `# edgekit {...}`.

The candidates differ in settings for the runtime only, which the description holds. Winograd's algorithm, ncnn's own
choice for 3x3 convolutions, rounds more than a direct convolution does, with large tiles most; some deep networks miss
the gate with it. ParNet-S takes 1.15 times as long with small tiles, and 1.9 times without. The largest tiles, of 6x6,
are never used: on AArch64 they cost ParNet-S 6 dB more than here, where it would pass with them.

pnnx ends well whatever it wrote, also when ncnn lacks a layer. So its file is searched for such layers, and the rest
is loaded and run once (see `ncnn_trial`) before it counts as converted. ncnn has no batch axis, and every other kind of
rounding than float32 is asked of pnnx (`fp16=0`) and of ncnn in so many words.

On ARM ncnn computes `rsqrt` and `reciprocal` from the processor's estimate with one step of Newton's method, 1.5e-5 and
8e-6 off, which costs a network with layer norms 15 dB. On x86 they are exact, so no check there would tell. They are
written as a power and a division, which are exact to 1.5e-7 on both.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ncnn
import pnnx
import torch

from edgekit.errors import ConverterError, MisuseError, first_line, root_cause
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.process import Finished, run, run_script
from edgekit.program import Program
from edgekit.standalone import as_module

_ncnn: Any = ncnn  # compiled, and says nothing of its types

MARK = "# edgekit "
"""Before the description, on the last line of the `.param` file."""

FLOAT32 = "load with use_fp16_packed, use_fp16_storage, use_fp16_arithmetic and use_bf16_storage off, for float32"

SETTINGS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "medium tiles": {"use_winograd63_convolution": 0},
        "small tiles": {"use_winograd43_convolution": 0, "use_winograd63_convolution": 0},
        "no Winograd": {"use_winograd_convolution": 0},
    }
)
"""Options of `ncnn.Net` that a network may need, the fastest first."""

EXACT: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        ("UnaryOp", "0=6"): ("BinaryOp", "0=6", "1=1", "2=-5.000000e-01"),
        ("UnaryOp", "0=15"): ("BinaryOp", "0=8", "1=1", "2=1.000000e+00"),
    }
)
"""Layers and their parameters that ARM rounds, to what stands for them: `rsqrt(x)` is `x^-0.5`, `1/x` is `1 / x`."""

TRIAL = Path(__file__).with_name("ncnn_trial.py")

LAYERS, WEIGHTS = "net.param", "net.bin"
"""What pnnx writes, in a folder of its own."""

_HEADER_LINES = 2
_ADVICE = "Write that in other operators in the model, or choose other formats with --format."


def export(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
    """Writes `<stem>.ncnn.param` and `<stem>.ncnn.bin`, constants in float32.

    Raises:
        MisuseError: An input or output is for more than one image.
    """
    refuse_batches(spec)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        scratch = Path(name)
        layers = exact(named(convert(program, spec, scratch).read_text().splitlines(), spec))
        refuse_unknown(layers)
        try_out(spec, scratch, layers)
        stems = (stem, *(f"{stem}~{index}" for index in range(1, len(SETTINGS))))
        return tuple(
            _candidate(layers, spec, scratch / WEIGHTS, folder / place, label)
            for place, label in zip(stems, SETTINGS, strict=True)
        )


def _candidate(layers: list[str], spec: ExportSpec, weights: Path, place: Path, label: str) -> Candidate:
    """Writes the network with the description of one set of settings."""
    param, copy = (place.with_name(f"{place.name}{suffix}") for suffix in (".ncnn.param", ".ncnn.bin"))
    param.write_text("\n".join([*layers, MARK + spec.described(SETTINGS[label]), ""]))
    shutil.copyfile(weights, copy)
    notes = tuple(f"set {option} to false" for option in SETTINGS[label])
    return Candidate((param, copy), label, (FLOAT32, *notes))


def refuse_batches(spec: ExportSpec) -> None:
    """Refuses a network for several images at once.

    Raises:
        MisuseError: The first axis of an input or output is longer than one.
    """
    for each in (*spec.inputs, *spec.outputs):
        if not each.shape or each.shape[0] != 1:
            raise MisuseError(
                f"ncnn has no batch axis, and {each.name!r} is of shape {each.shape}. Export for one image, with "
                "--input 1x..., or choose other formats with --format."
            )


def convert(program: Program, spec: ExportSpec, scratch: Path) -> Path:
    """Runs pnnx, and gives back the `.param` file.

    Raises:
        ConverterError: torch cannot trace the program, or pnnx cannot convert it.
    """
    module = as_module(program, [each.name for each in spec.inputs], trainable=False)
    try:
        with torch.no_grad():
            traced: Any = torch.jit.trace(module, spec.examples(), check_trace=False)  # type: ignore[no-untyped-call]
        traced.save(str(scratch / "net.pt"))
    except Exception as error:
        raise ConverterError(f"torch.jit could not trace the program: {first_line(root_cause(error))}") from error
    shapes = ",".join(f"[{','.join(map(str, each.shape))}]f32" for each in spec.inputs)
    arguments = [f"inputshape={shapes}", "fp16=0", f"ncnnparam={LAYERS}", f"ncnnbin={WEIGHTS}"]
    done = run([pnnx.EXEC_PATH, "net.pt", *arguments], scratch)
    param = scratch / LAYERS
    if done.status or not param.is_file():
        raise ConverterError(f"pnnx could not convert the program: {last_line(done)}. {_ADVICE}")
    return param


def named(lines: list[str], spec: ExportSpec) -> list[str]:
    """The layers with pnnx's blobs `in0` and `out0` under the network's names; others of these names get another.

    Raises:
        ConverterError: A name has white space, at which ncnn would end it.
    """
    wanted = {
        f"{side}{index}": each.name
        for side, specs in (("in", spec.inputs), ("out", spec.outputs))
        for index, each in enumerate(specs)
    }
    for name in wanted.values():
        if len(name.split()) != 1:
            raise ConverterError(f"ncnn cannot call a tensor {name!r}: a name ends at white space. Give it another.")
    names = {name: f"{name}.inside" for name in wanted.values()} | wanted
    return [*lines[:_HEADER_LINES], *(_renamed(line, names) for line in lines[_HEADER_LINES:])]


def exact(lines: list[str]) -> list[str]:
    """The layers without those that are exact on some processors only."""
    return [*lines[:_HEADER_LINES], *map(_exact, lines[_HEADER_LINES:])]


def _exact(line: str) -> str:
    kind, name, inputs, outputs, *rest = line.split()
    count = int(inputs) + int(outputs)
    found = EXACT.get((kind, " ".join(rest[count:])))
    return " ".join([f"{found[0]:<24} {name:<24} {inputs} {outputs}", *rest[:count], *found[1:]]) if found else line


def _renamed(line: str, names: dict[str, str]) -> str:
    """A layer, `type name inputs outputs blobs... parameters...`, with other names for its blobs."""
    kind, name, inputs, outputs, *rest = line.split()
    count = int(inputs) + int(outputs)
    blobs = [names.get(blob, blob) for blob in rest[:count]]
    return " ".join([f"{kind:<24} {name:<24} {inputs} {outputs}", *blobs, *rest[count:]])


def refuse_unknown(layers: list[str]) -> None:
    """Refuses layers that ncnn does not have.

    Raises:
        ConverterError: There are such, named as pnnx calls them.
    """
    kinds = dict.fromkeys(line.split()[0] for line in layers[_HEADER_LINES:])
    unknown = [kind for kind in kinds if _ncnn.layer_to_index(kind) < 0]
    if unknown:
        raise ConverterError(f"ncnn has no layer for {', '.join(unknown)}, which pnnx left in its file. {_ADVICE}")


def try_out(spec: ExportSpec, scratch: Path, layers: list[str]) -> None:
    """Runs the network once.

    Raises:
        ConverterError: ncnn does not load it, or crashes.
    """
    (scratch / LAYERS).write_text("\n".join([*layers, ""]))
    done = run_script(TRIAL, [LAYERS, WEIGHTS, spec.described()], scratch)
    if done.status:
        why = f"it crashes with {done.crash}" if done.crash else last_line(done)
        raise ConverterError(f"ncnn cannot run what pnnx made of the program: {why}. {_ADVICE}")


def last_line(done: Finished) -> str:
    """The last thing a program said."""
    said = [line.strip() for line in done.output.splitlines() if line.strip()]
    return said[-1].rstrip(".") if said else done.crash or "it gives no reason"
