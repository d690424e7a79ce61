"""Predictions of a model, by its SageMaker endpoint or in this process."""
