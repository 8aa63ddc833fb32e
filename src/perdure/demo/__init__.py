"""The whole road on one machine: questions → model → training → `finish` → hub → loaded back by plain transformers.

It stands above the public root: what it does to a model, any program could do with perdure's public names and the
embedded hub.
"""
