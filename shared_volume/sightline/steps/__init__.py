"""The steps of the pipeline, a folder each; no step imports another."""
