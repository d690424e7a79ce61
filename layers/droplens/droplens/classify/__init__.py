"""Classification of dropped images."""
