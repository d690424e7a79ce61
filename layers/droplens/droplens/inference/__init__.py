"""The networks of our trainer's artefacts, run in this process."""

import os

# From 1.29 on, ONNX Runtime reports its use to Microsoft and keeps a file for it in the temporary
# folder, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
