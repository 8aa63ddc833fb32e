"""What is in the files: the safetensors header, the shard plan and the manifest. Pure functions, no torch."""
