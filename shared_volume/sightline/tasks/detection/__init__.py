"""Boxes and masks, by mmdet."""
