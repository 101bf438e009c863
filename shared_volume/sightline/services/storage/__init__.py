"""Stored files: a folder or a Cloud Storage bucket, used alike."""
