"""General helpers, each written once."""
