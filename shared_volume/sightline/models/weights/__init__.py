"""Trained weights of others: read without running anything from a file, and matched to a model."""
