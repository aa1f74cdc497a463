"""Stand-ins for benchmark programs, for what the real ones cannot be made to do at will.

The one for TFLite's `benchmark_model`, of which no package exists, is LiteRT itself behind that program's options and
output: it runs the artifact it is given on the input it is given. The other takes the place of a program that fails.
"""

import stat
import sys
from pathlib import Path

BENCHMARK_MODEL = """\
#!{python}
import sys
from time import perf_counter_ns
import numpy as np
from ai_edge_litert.interpreter import Interpreter
HELP = "usage: benchmark_model <flags>" + "".join("\\n\\t--" + name + "=  " for name in {options!r})
if "--help" in sys.argv:
    sys.exit(print(HELP) or 1)
given = dict(word[2:].split("=", 1) for word in sys.argv[1:])
net = Interpreter(given["graph"], num_threads=int(given["num_threads"]))
net.allocate_tensors()
(source,), (sink,) = net.get_input_details(), net.get_output_details()
if "input_layer_value_files" in given:
    name, path = given["input_layer_value_files"].split(":")
    net.set_tensor(source["index"], np.fromfile(path, source["dtype"]).reshape(source["shape"]))
times = []
for _ in range(int(given["warmup_runs"]) + int(given["num_runs"])):
    begin = perf_counter_ns()
    net.invoke()
    times.append((perf_counter_ns() - begin) / 1e3)
runs = times[int(given["warmup_runs"]):]
mean = sum(runs) / len(runs)
print("count=2 first=1 curr=1 min=1 max=1 avg=1 std=0")
print(f"count={{len(runs)}} first=1 curr=1 min={{min(runs):.0f}} max={{max(runs):.0f}} avg={{mean:.6g}} std=0")
print(f"Inference timings in us: Init: 100, First inference: 10, Warmup (avg): 10, Inference (avg): {{mean:.6g}}")
if "output_filepath" in given:
    (net.get_tensor(sink["index"]){change}).tofile(given["output_filepath"])
"""

OLD_OPTIONS = ("graph", "num_threads", "num_runs", "warmup_runs", "min_secs", "input_layer")
OPTIONS = (*OLD_OPTIONS, "input_layer_shape", "input_layer_value_files", "output_filepath", "max_secs")


def benchmark_model(folder: Path, *, options: tuple[str, ...] = OPTIONS, change: str = "") -> Path:
    """A stand-in for `benchmark_model`; `change` is done to its output."""
    text = BENCHMARK_MODEL.format(python=sys.executable, options=options, change=change)
    return program(folder, "benchmark_model", text)


def shell_program(folder: Path, body: str, name: str = "benchncnn") -> Path:
    """A shell script in the place of a program."""
    return program(folder, name, f"#!/bin/sh\n{body}\n")


def program(folder: Path, name: str, text: str) -> Path:
    """A file that can be executed."""
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
