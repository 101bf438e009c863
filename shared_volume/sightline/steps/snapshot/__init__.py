"""Freeze what a run uses."""
