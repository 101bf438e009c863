"""`pipeline.py sync`: put this checkout's helper code on the volume that the cluster's steps read."""
