"""SageMaker on this machine: training, endpoints, the Model Registry."""
