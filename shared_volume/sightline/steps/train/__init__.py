"""Fit a model to a dataset version."""
