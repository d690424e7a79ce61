"""Persistent state: runs in DynamoDB, model cards in S3, models in the Model Registry."""
