"""Training of the selected student as a whole."""
