"""Model bundles: written, read and fetched."""
