"""Droplens' own training and serving image, under the SageMaker container contract."""

import os

# From 1.29 on, ONNX Runtime reports its use to Microsoft and keeps a file for it in the temporary
# folder, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
