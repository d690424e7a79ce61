"""How a dropped picture gets its answer."""
