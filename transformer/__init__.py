"""The compiler: graph, capture, rewriting, contracts, pipeline and command."""
