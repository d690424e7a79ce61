"""Runs SeaweedFS, an S3 server, for tests and benchmarks."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localcloud.ports import free_ports

_SECONDS_TO_START = 60
# Where SeaweedFS creates the sockets between its parts; no option moves them.
_SOCKETS = Path("/tmp")  # noqa: S108
_PARTS = ("master", "volume", "filer", "s3")


@contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """The endpoint's URL of a server on 127.0.0.1 that keeps its buckets in the empty `folder`.

    Any credentials are accepted. At the end its files outside `folder` are removed.
    """
    ports = free_ports(2 * len(_PARTS))
    own, grpc = ports[: len(_PARTS)], ports[len(_PARTS) :]
    command = [str(Path(sys.executable).parent / "weed"), "-logtostderr", "server"]
    command += [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    for part, port, grpc_port in zip(_PARTS, own, grpc, strict=True):
        command += [f"-{part}.port={port}", f"-{part}.port.grpc={grpc_port}"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    # Telemetry is on by default.
    command += ["-master.telemetry=false"]
    # Every bucket takes volumes of its own, which are files that grow.
    command += ["-master.volumeSizeLimitMB=1024", "-volume.max=200"]
    url = f"http://127.0.0.1:{own[-1]}"
    # With AWS credentials in its environment it would accept no others.
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("AWS_")}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    try:
        _wait(url, server, folder / "server.log")
        yield url
    finally:
        # Its data are not needed any more: no orderly shutdown.
        server.kill()
        server.wait()
        for part, port in zip(_PARTS * 2, ports, strict=True):
            for kind in (f"{part}-{port}", f"{part}-grpc-{port}"):
                (_SOCKETS / f"seaweedfs-{kind}.sock").unlink(missing_ok=True)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  our own server's
                return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                raise RuntimeError(f"SeaweedFS did not start:\n{last}") from None
            time.sleep(0.1)
