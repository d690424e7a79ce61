"""The im2rec job: it packs labelled images as RecordIO for training."""

import os

# Read when NumPy is imported. Matrix products here are small, and the idle threads of OpenBLAS spin
# on the cores that decode.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
