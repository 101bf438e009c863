"""Image files: read upright, and compared by how they look."""
