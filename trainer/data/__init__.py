"""A channel of records as pixels or features."""
