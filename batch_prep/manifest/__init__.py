"""The packed dataset with its manifest, dataset.json."""
