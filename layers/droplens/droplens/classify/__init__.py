"""How a dropped image gets its answer."""
