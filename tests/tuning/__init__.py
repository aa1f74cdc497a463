"""Tests of choosing by what was measured."""
