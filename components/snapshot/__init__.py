"""The snapshot step's KFP component."""
