"""One pass a file; the algorithm in free functions beside it."""
