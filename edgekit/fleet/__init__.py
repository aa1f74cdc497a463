"""Measuring bundles on devices: each artifact sent there, compared there, and timed or counted there.

bundles x devices -> a job for each number of threads -> outputs compared here -> times with verdicts, or counts; memory
"""
