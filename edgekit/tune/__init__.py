"""Measuring the forms of depthwise kernels: small test networks on a device, then the whole network."""
