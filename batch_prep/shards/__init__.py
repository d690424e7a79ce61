"""Packing in shards, by several jobs or processes, merged into one dataset."""
