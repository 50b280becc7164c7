"""Shards of samples: what a sample is, how shards are written, read, checked and looked at."""
