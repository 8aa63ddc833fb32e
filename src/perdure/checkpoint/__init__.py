"""Checkpoints of a run: written while training goes on, put in place at once, verified when read, kept by policy."""
