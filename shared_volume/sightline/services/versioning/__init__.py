"""Versions: Git tags over DVC objects, published all or nothing."""
