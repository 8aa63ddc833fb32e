"""The whole road on one machine: questions → model → training → `finish` → hub → loaded back by plain transformers.

It stands above the public root and uses only what any program could: perdure's public names and the embedded hub.
"""
