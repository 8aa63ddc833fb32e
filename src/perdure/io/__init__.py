"""Bytes on disk: digests, durable writes, staging folders and locks. Knows nothing of tensors or models."""
