"""Use the selected model on test images, with or without annotations."""
