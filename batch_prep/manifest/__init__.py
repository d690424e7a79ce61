"""What was packed: checked for being a dataset, and written as dataset.json."""
