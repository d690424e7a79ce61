"""What `droplens.pictures` is made of: limits, structure, decoding, the sandbox, preprocessing."""
