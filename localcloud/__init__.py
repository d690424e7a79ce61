"""An AWS emulator on one machine: MiniStack, with Batch and SageMaker that run containers."""
