"""Finding the replaceable blocks of a recorded network."""
