"""Sightline's library: everything the pipeline's steps do. Lies on the persistent volume and imports no kfp."""
