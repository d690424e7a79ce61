"""Droplens' own training and serving image, under the SageMaker container contract."""
