"""What publish and record share: labelme documents, findings, recipes, checking, joining."""
