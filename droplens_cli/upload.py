"""Uploads a dataset: many files at a time, only what is missing, the completing object last."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from droplens.aws.s3 import Bucket
from droplens.domain import naming
from droplens.domain.errors import ObjectMissing
from droplens.domain.run import RunKey
from droplens.domain.stored_object import ListedObject
from droplens_cli.errors import CommandError
from droplens_cli.folder_check import LocalDataset, LocalFile

THREADS = 16
# Metadata: of a file its SHA-256; of the completing object that of all files together, by which a
# repeated upload of the same dataset starts no second run.
DIGEST = "sha256"
_DATASET = "dataset-sha256"
# A larger file is sent in parts.
_IN_PARTS_FROM = 25 * 1024 * 1024
_READ_AT_ONCE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sent:
    """The outcome of an upload.

    run: of the dataset; sent, kept: files uploaded, and files that were there already; is_new:
    whether the completing object was written, which starts the run.
    """

    run: RunKey
    sent: int
    kept: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Digests:
    """Hexadecimal digests of a file: sha256 for its metadata, md5 as S3's ETag of one part."""

    sha256: str
    md5: str


def digests(path: Path) -> Digests:
    """The digests of the file at `path`, read in parts."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(_READ_AT_ONCE):
            sha256.update(data)
            md5.update(data)
    return Digests(sha256.hexdigest(), md5.hexdigest())


class Upload:
    """The upload of one dataset into the stack's bucket."""

    def __init__(self, bucket: Bucket, dataset: LocalDataset) -> None:
        self._bucket = bucket
        self._dataset = dataset
        self._stop = threading.Event()

    def others(self) -> list[str]:
        """The keys of the classifier's folder that the dataset on this machine does not have."""
        wanted = {one.key for one in self._dataset.every} | {self._dataset.completing_key}
        return [key for key in self._listed() if key not in wanted]

    def delete(self, keys: list[str]) -> None:
        """Delete these objects. Raises CommandError where S3 refuses one."""
        for start in range(0, len(keys), 1000):  # DeleteObjects' limit
            response = self._bucket.client.delete_objects(
                Bucket=self._bucket.name,
                Delete={"Objects": [{"Key": key} for key in keys[start : start + 1000]]},
            )
            for problem in response.get("Errors", []):
                raise CommandError(f"could not delete {problem['Key']}: {problem['Message']}")

    def send(self, done: Callable[[LocalFile], None], *, again: bool) -> Sent:
        """Upload what is missing, then the completing object.

        done: called in this thread for each file but the completing one, when it is there. again:
        write the completing object also where this very dataset is complete already.
        """
        listed = self._listed()
        sent = kept = 0
        whole = hashlib.sha256()
        for file, digest, was_sent in self._all(listed):
            sent, kept = sent + was_sent, kept + (not was_sent)
            whole.update(f"{file.key}\n{digest}\n".encode())
            done(file)
        key, last = self._dataset.completing_key, self._dataset.last or self._dataset.archive
        if last is not None:
            whole.update(digests(last.path).sha256.encode())
        is_new = again or not self._is_complete(key, whole.hexdigest())
        if is_new:
            self._complete(key, last, whole.hexdigest())
        info = self._bucket.head(key)
        identity = f"{key}\n{info.version_id or info.etag}"
        run = RunKey(self._dataset.classifier, naming.run_id(info.stored_at, identity))
        return Sent(run, sent, kept, is_new)

    def _listed(self) -> dict[str, ListedObject]:
        if self._dataset.archive is not None:
            return {}
        return {entry.key: entry for entry in self._bucket.entries(self._dataset.prefix)}

    def _all(self, listed: dict[str, ListedObject]) -> Iterator[tuple[LocalFile, str, bool]]:
        """Every file but the completing one, in the order of the keys, as it has been uploaded."""
        files = self._dataset.files
        with ThreadPoolExecutor(THREADS) as threads:
            try:
                futures = [threads.submit(self._one, file, listed.get(file.key)) for file in files]
                for future in futures:
                    yield future.result()
            finally:
                self._stop.set()
                threads.shutdown(cancel_futures=True)

    def _one(self, file: LocalFile, there: ListedObject | None) -> tuple[LocalFile, str, bool]:
        if self._stop.is_set():
            raise CommandError("the upload was stopped")
        found = digests(file.path)
        if there is not None and self._is_there(file, there, found):
            return file, found.sha256, False
        self._put(file, {DIGEST: found.sha256})
        return file, found.sha256, True

    def _is_there(self, file: LocalFile, there: ListedObject, found: Digests) -> bool:
        """Whether the object has the file's bytes.

        An ETag is the MD5 only without a KMS key and for one part (S3 API Reference, "Object").
        """
        if there.bytes != file.bytes:
            return False
        if there.etag == found.md5:
            return True
        try:
            return self._bucket.head(file.key).metadata.get(DIGEST) == found.sha256
        except ObjectMissing:
            return False

    def _put(self, file: LocalFile, metadata: dict[str, str]) -> None:
        client: Any = self._bucket.client
        if file.bytes > _IN_PARTS_FROM:
            client.upload_file(
                str(file.path), self._bucket.name, file.key, ExtraArgs={"Metadata": metadata}
            )
            return
        with file.path.open("rb") as body:
            client.put_object(Bucket=self._bucket.name, Key=file.key, Body=body, Metadata=metadata)

    def _is_complete(self, key: str, digest: str) -> bool:
        try:
            return self._bucket.head(key).metadata.get(_DATASET) == digest
        except ObjectMissing:
            return False

    def _complete(self, key: str, last: LocalFile | None, digest: str) -> None:
        metadata = {_DATASET: digest}
        if last is not None:
            self._put(last, metadata)
            return
        self._bucket.client.put_object(
            Bucket=self._bucket.name, Key=key, Body=b"", Metadata=metadata
        )
