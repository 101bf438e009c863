"""The commands that people type on a laptop: python pipeline.py --help."""
