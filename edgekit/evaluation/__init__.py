"""Accuracy: what each step from the trained network to an artifact costs, image by image, and how sure that is."""
