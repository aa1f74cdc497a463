"""Runs MNN's compiled converter: `python -P mnn_converter.py ARGUMENTS`, those of `mnnconvert`.

A program of its own, because the converter crashes on some graphs. The compiled module is called as it is. MNN's own
commands, and whatever imports `MNN.tools`, install a package with pip when they start, ask a server for credentials,
and report every conversion to it.
"""

import sys

import _tools

if __name__ == "__main__":
    sys.exit(0 if _tools.mnnconvert(["mnnconvert", *sys.argv[1:]]) else 1)
