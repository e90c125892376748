"""A network as plain data."""
