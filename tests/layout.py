"""The layout as a table: which module or package may import which."""

from collections.abc import Mapping
from types import MappingProxyType

WORDS = frozenset({"artifact", "dense_layer", "errors", "version"})
"""What every module may import: the words stages share, the error tree, the version."""

ALLOWED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "artifact": frozenset(),
        "errors": frozenset(),
        "version": frozenset(),
        # Tools without an opinion about the order: files, numbers, and the program as a data structure.
        "archive": frozenset(),
        "files": frozenset(),
        "records": frozenset({"files"}),
        "dense_layer": frozenset(),
        "inputs": frozenset(),
        "kernel_file": frozenset(),
        "kernel_group": frozenset(),
        "macs": frozenset(),
        "numerics": frozenset(),
        "quiet": frozenset(),
        "user_code": frozenset(),
        "program": frozenset({"macs"}),
        "user_module": frozenset({"user_code"}),
        "memory": frozenset({"program"}),
        "standalone": frozenset({"program"}),
        "reference": frozenset({"program"}),
        "inspection": frozenset({"macs", "program"}),
        "pictures": frozenset({"inspection", "kernel_file", "program"}),
        "tuning": frozenset({"files", "kernel_group"}),
        "precision_text": frozenset({"tuning"}),
        "bundle": frozenset({"files", "tuning"}),
        "data": frozenset({"user_module", "user_code"}),
        "cache": frozenset({"files"}),
        "clock": frozenset({"bundle", "cache", "quiet"}),
        "flatbuffer": frozenset(),
        "process": frozenset(),
        "mnn_converter": frozenset(),
        "mnn_tools": frozenset({"process"}),
        "mnn_file": frozenset(),
        # The stages. None imports another; verify alone runs things, and drives them through the runners.
        "models": frozenset({"inputs", "reference"}),
        "intake": frozenset({"archive", "files", "inputs", "models", "numerics", "user_code", "user_module"}),
        "capture": frozenset({"program"}),
        "passes": frozenset({"kernel_group", "macs", "numerics", "program", "reference"}),
        "exporters": frozenset({"flatbuffer", "mnn_tools", "process", "program", "standalone"}),
        "quant": frozenset({"filegraph", "flatbuffer", "mnn_file", "mnn_tools"}),
        "litert": frozenset(),
        "runners": frozenset({"archive", "litert", "targets"}),  # targets: what is the same on boards
        "filegraph": frozenset({"archive", "macs", "mnn_file", "program"}),
        "bench": frozenset({"bundle", "filegraph", "quiet", "records", "reference_file", "runners", "verify"}),
        "evaluation": frozenset({"bundle", "cache", "data", "numerics", "records"}),
        "targets": frozenset({"files"}),
        "verify": frozenset({"inputs", "numerics", "runners"}),
        "reference_file": frozenset({"numerics", "verify"}),
        # The order: what is decided before a framework loads, the half with torch in it, and the whole.
        "places": frozenset({"cache", "targets", "tuning"}),
        "plan": frozenset({"cache", "exporters", "files", "intake", "models", "places", "quant", "targets", "tuning"}),
        "network": frozenset(
            {
                *("cache", "capture", "inputs", "intake", "memory", "models", "numerics"),
                *("passes", "plan", "program", "reference", "tuning", "verify"),
            }
        ),
        "fused": frozenset({"capture", "inputs", "network", "passes", "standalone", "verify"}),
        "material": frozenset({"data", "quant"}),
        "quantize": frozenset({"filegraph", "material", "numerics", "quant", "runners", "tuning"}),
        "budget": frozenset({"evaluation", "material", "quant", "quantize", "runners", "tuning"}),
        "quantize_file": frozenset(
            {"budget", "cache", "files", "material", "places", "quant", "quiet", "runners", "tuning"}
        ),
        "candidates": frozenset(
            {"bundle", "clock", "exporters", "files", "kernel_group", "network", "plan", "program", "verify"}
        ),
        "partitioned": frozenset(
            {
                *("bundle", "candidates", "clock", "exporters", "files", "network"),
                *("passes", "plan", "program", "targets", "verify"),
            }
        ),
        "quantized": frozenset(
            {
                *("budget", "bundle", "candidates", "clock", "exporters", "files", "material", "network"),
                *("plan", "precision_text", "quant", "verify"),
            }
        ),
        "quantized_parts": frozenset(
            {
                *("bundle", "clock", "exporters", "files", "material", "network", "partitioned", "plan"),
                *("quant", "quantize", "quantized", "runners"),
            }
        ),
        "pipeline": frozenset(
            {
                *("bench", "bundle", "cache", "candidates", "clock", "data", "evaluation", "exporters", "files"),
                *("inspection", "kernel_file", "material", "network", "partitioned", "passes", "pictures", "plan"),
                *("precision_text", "quant", "quantized", "quantized_parts", "reference_file", "tuning", "verify"),
            }
        ),
        "tune": frozenset(
            {
                *("bench", "cache", "capture", "exporters", "kernel_group", "network", "numerics", "passes", "plan"),
                *("program", "quant", "quantize", "quiet", "reference", "runners", "targets", "tuning", "verify"),
            }
        ),
        "waterfall": frozenset(
            {
                *("bundle", "cache", "clock", "evaluation", "network", "plan", "program"),
                *("quiet", "reference_file", "runners"),
            }
        ),
        "kept_float": frozenset({"bench", "bundle", "quiet", "reference_file"}),
        "evaluate": frozenset({"bench", "bundle", "cache", "data", "evaluation", "records", "waterfall"}),
        "check": frozenset({"bundle", "quiet", "reference_file", "verify"}),
        "difference": frozenset({"bench", "bundle", "evaluation", "verify"}),
        "gate": frozenset({"bench", "difference", "evaluation", "files"}),
        "report": frozenset({"bench", "bundle", "evaluation", "kernel_file", "tuning"}),
        "footprint": frozenset({"bench", "targets"}),  # targets: what is the same on boards
        "measure": frozenset({"bench", "bundle", "files", "footprint", "targets"}),
        "fleet": frozenset({"bench", "bundle", "footprint", "measure", "reference_file", "targets", "verify"}),
    }
)
"""Module or package of edgekit to the others it may import, besides WORDS and itself."""

FREE = frozenset({"cli", "__main__"})
"""The edge, which may import anything and which only the edge imports."""

SHARED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "exporters": frozenset({"base", "gathered_constants", "onnx_graph", "process"}),
        "runners": frozenset({"base"}),
        "filegraph": frozenset({"base"}),
        "quant": frozenset({"base", "bias", "dense", "half", "onnx_bias", "ranges", "recipe", "tflite_bias"}),
    }
)
"""Package to what its modules may import of each other; its `__init__`, which holds the table, may import all."""
