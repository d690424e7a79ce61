"""The im2rec job: a folder or an archive of labelled pictures becomes RecordIO for training."""
