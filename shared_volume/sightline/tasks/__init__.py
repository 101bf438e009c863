"""What only one task knows, a folder each."""
