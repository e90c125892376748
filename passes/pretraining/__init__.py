"""Training of candidates on the teacher's features."""
