"""Packed datasets: the record format and the manifest."""
