"""The im2rec job: labelled pictures in folders, archives or lists become RecordIO for training."""

import os

# Read when NumPy is imported. Its products are small, and the threads that it would have wait for
# the next one by spinning, on the cores that decode.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
