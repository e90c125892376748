"""The teacher becomes a graph with blocks."""
