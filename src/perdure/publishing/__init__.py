"""Publish a model folder to a Hub, one atomic commit or nothing; and what comes before and after that.

`target` says where to, `selection` which local files belong, `plan` compares them with the remote tree (pure), `client`
and `remote` speak with the Hub, and `push` is the sequence of these. `outbox` holds pushes that wait; `pull` is the way
back; `revisions` and `promote` are for choosing among what was pushed.
"""
