"""The one place where a graph is changed."""
