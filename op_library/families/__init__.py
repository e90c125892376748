"""Operation families, one a file."""
