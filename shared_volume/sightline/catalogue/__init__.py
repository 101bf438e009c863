"""Looking after versions: what there is, how two of them differ, whether each can be read, and mending what cannot."""
