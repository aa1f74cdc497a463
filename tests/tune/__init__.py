"""Tests of measuring to choose."""
