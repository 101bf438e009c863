"""The record step's KFP component."""
