"""Make an annotation version from a folder of annotated images."""
