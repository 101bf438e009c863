"""HTML pages that need no other file: layout, charts, pictures."""
