"""The train step's KFP component."""
