"""Precisions: which numbers an artifact's weights and activations are."""
