"""From a model to a graph with blocks."""
