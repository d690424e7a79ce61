"""The domain model: runs, model cards, results, names. Pure, without AWS clients."""
