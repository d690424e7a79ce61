"""Records in, pixels and features out."""
