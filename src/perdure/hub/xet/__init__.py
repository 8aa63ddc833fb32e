"""Xet uploads, the default of `huggingface_hub` 2.x: chunks come in xorbs, a shard says how files are made of them.

The hub takes the write half of the protocol only. Each file a shard describes is put together at once, its sha256
compared with the one in the shard, and the result stored like any other large file; downloads are plain HTTP.
Formats and hashes follow the public specification, https://huggingface.co/docs/xet.
"""
