"""Score models and select one."""
