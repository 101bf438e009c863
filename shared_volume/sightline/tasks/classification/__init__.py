"""What a whole image shows: one class of several."""
