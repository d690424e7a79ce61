"""Batch inference: a model classifies objects of any bucket, by AWS Batch (`classify`)."""
