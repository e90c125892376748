"""Other searches over the same candidates, for comparison (HANT section 3.2, table 4)."""
