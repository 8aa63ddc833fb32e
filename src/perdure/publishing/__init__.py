"""Publish a model folder to a Hub: one atomic commit, or nothing.

`target` says where to, `selection` which local files belong, `plan` compares them with the remote tree (pure),
`remote` speaks with the Hub (the only file that imports its client), and `publish` is the sequence of the four.
"""
