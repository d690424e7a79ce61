"""Which folder a URL or a path names."""

from pathlib import Path

from batch_prep.errors import JobError
from batch_prep.storage.folder import Folder
from batch_prep.storage.local import LocalFolder
from batch_prep.storage.s3 import S3Folder


def locate(url: str) -> tuple[Folder, str]:
    """The folder that holds `url`'s object, and its name there; "" for a URL ending in "/"."""
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
    """The folder at `url`, whether or not it ends in "/"."""
    return locate(url if url.endswith("/") else url + "/")[0]
