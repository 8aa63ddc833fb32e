"""Save a model: which tensors, which files, in which shape for inference."""
