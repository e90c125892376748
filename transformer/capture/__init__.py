"""Reading a model file and capturing its graph."""
