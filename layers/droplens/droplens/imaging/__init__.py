"""Untrusted images: limits, structure scan, decoding, the sandbox, preprocessing."""
