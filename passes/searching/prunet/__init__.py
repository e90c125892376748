"""PruNet: a search that trains the replacements together, prunes what loses, and skips what is not needed."""
