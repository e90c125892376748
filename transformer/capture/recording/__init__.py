"""Recording the execution of a network as a list of steps."""
