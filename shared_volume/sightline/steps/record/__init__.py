"""Turn an annotation version into a dataset version."""
