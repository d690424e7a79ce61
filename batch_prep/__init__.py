"""The im2rec job: labelled pictures in folders, archives or lists become RecordIO for training."""
