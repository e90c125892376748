"""TensorRT in two flavours: prepare the graph, build the engine, run, time."""
