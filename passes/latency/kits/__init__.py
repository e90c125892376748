"""A kit measures on a device that has neither hant nor PyTorch: what it holds, its script, what comes back."""
