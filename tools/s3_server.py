"""A real S3 server on this machine, SeaweedFS, for tests and benchmarks."""

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
# Where SeaweedFS puts the sockets by which its parts talk; no option moves them.
_SOCKETS = Path("/tmp")  # noqa: S108
_PARTS = ("master", "volume", "filer", "s3")


@contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """The endpoint's URL of a server on 127.0.0.1 that keeps its buckets in the empty `folder`.

    Any credentials are good. Ends with everything that it left outside `folder` removed.
    """
    ports = free_ports(2 * len(_PARTS))
    own, grpc = ports[: len(_PARTS)], ports[len(_PARTS) :]
    command = [str(Path(sys.executable).parent / "weed"), "-logtostderr", "server"]
    command += [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    for part, port, grpc_port in zip(_PARTS, own, grpc, strict=True):
        command += [f"-{part}.port={port}", f"-{part}.port.grpc={grpc_port}"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    # It reports to its makers unless it is told not to.
    command += ["-master.telemetry=false"]
    # Every bucket takes volumes of its own, which are files that grow.
    command += ["-master.volumeSizeLimitMB=1024", "-volume.max=200"]
    url = f"http://127.0.0.1:{own[-1]}"
    # With a caller's credentials in its environment it would take no others.
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("AWS_")}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    try:
        _wait(url, server, folder / "server.log")
        yield url
    finally:
        # Nobody will read its data again, so it need not be asked to put them in order.
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
