"""One machine as the cloud: MiniStack, with Batch and SageMaker that really run the containers."""
