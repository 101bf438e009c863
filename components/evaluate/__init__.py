"""The evaluate step's KFP component."""
