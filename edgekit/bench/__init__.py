"""Latency and memory that one can trust."""
