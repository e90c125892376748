"""The graph of the teacher and its blocks."""
