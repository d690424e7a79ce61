"""Untrusted images: limits, structure scan, sandboxed decoding, preprocessing."""
