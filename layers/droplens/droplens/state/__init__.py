"""What is kept where: runs in DynamoDB, model cards in S3, models in the Model Registry."""
