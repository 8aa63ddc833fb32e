"""The state of a training run: what it consists of, how it is written without pickle, and when it may be copied."""
