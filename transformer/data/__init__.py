"""Sources of data, and the batches that are cut from them."""
