"""Searches over the same candidates, by other means than the integer program (HANT section 3.2, table 4)."""
