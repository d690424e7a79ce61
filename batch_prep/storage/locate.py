"""Folders by their URL or local path."""

from pathlib import Path

from batch_prep.errors import JobError
from batch_prep.storage.folder import Folder
from batch_prep.storage.local import LocalFolder
from batch_prep.storage.s3 import S3Folder


def locate(url: str) -> tuple[Folder, str]:
    """The folder that contains the file at `url`, and the file's name; "" for a folder.

    A folder is a URL that ends in "/", or an existing local one. Raises JobError for a URL of
    another scheme.
    """
    if url.startswith("s3://"):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise JobError(f"{url} names no bucket.")
        prefix, slash, name = key.rpartition("/")
        return S3Folder(bucket, prefix + slash), name
    if "://" in url:
        raise JobError(f"{url} is neither an s3:// URL nor a local path.")
    if url.endswith("/") or Path(url).is_dir():
        return LocalFolder(Path(url)), ""
    return LocalFolder(Path(url).parent), Path(url).name


def folder_at(url: str) -> Folder:
    """The folder at `url`, with or without a "/" at its end."""
    return locate(url if url.endswith("/") else url + "/")[0]
