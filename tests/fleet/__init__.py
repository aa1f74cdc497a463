"""Measuring bundles on devices; the device is this machine, behind the same guard and runner as a board."""
