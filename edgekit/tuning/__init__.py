"""Which form every group of depthwise kernels gets: what was measured, where it is kept, and how it decides.

Nothing here measures (`edgekit.tune` does) and nothing loads a framework.
"""
