"""What a run is made of: frozen code, and the record of each step."""
