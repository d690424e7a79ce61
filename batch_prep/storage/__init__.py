"""Folders of files, in S3 or on this machine's disk."""
