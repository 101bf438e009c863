"""The test step's KFP component."""
