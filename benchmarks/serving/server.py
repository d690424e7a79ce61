"""The serving container's process, a client that keeps its connection, and bare ONNX Runtime."""

import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import ROOT
from trainer.artefact import MODEL_FILE

STARTUP_SECONDS = 120
# What a script without a server has to do before its first picture.
_BARE = """
import sys
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print("ready", flush=True)
sys.stdin.read()
"""


class Client:
    """One connection, kept open from picture to picture."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ping(self) -> bool:
        """Whether the server is ready. Raises OSError where nobody listens yet."""
        return self._ask("GET", "/ping", None)[0] == 200

    def classify(self, picture: bytes) -> bytes:
        """The answer to one JPEG."""
        status, answer = self._ask("POST", "/invocations", picture)
        if status != 200:
            raise RuntimeError(f"the server answered {status}: {answer!r}")
        return answer

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        self._connection.request(method, path, body, {"Content-Type": "image/jpeg"})
        response = self._connection.getresponse()
        return response.status, response.read()


class Server:
    """`python -m trainer serve` that answers. seconds: from its start to the first answer."""

    def __init__(self, base: Path, port: int) -> None:
        self.port = port
        environment = _environment() | {
            "SAGEMAKER_BASE_DIR": str(base),
            "SAGEMAKER_BIND_TO_PORT": str(port),
        }
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainer", "serve"],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        self._await_ping(started + STARTUP_SECONDS)
        self.seconds = time.perf_counter() - started

    def _await_ping(self, deadline: float) -> None:
        while True:
            try:
                if Client(self.port).ping():
                    return
            except OSError:
                if self.process.poll() is not None or time.perf_counter() > deadline:
                    self.stop()
                    raise RuntimeError("the server does not come up") from None
            time.sleep(0.005)

    def memory_mb(self) -> dict[str, float]:
        """Resident memory now, and the most there was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status))
        return {
            "now": round(int(found["VmRSS"]) / 1024, 1),
            "peak": round(int(found["VmHWM"]) / 1024, 1),
        }

    def cpu_seconds(self) -> float:
        """Time of all its threads on a core, so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        user, system = int(fields[11]), int(fields[12])
        return (user + system) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """As SageMaker stops it."""
        self.process.terminate()
        self.process.wait(60)


@contextmanager
def serving(base: Path, port: int) -> Iterator[Server]:
    """A server of the model below `base`, stopped with the context."""
    server = Server(base, port)
    try:
        yield server
    finally:
        server.stop()


def bare_start(base: Path) -> float:
    """Seconds from a process's start until its session of the same model is there."""
    command = [sys.executable, "-c", _BARE, str(base / "model" / MODEL_FILE)]
    started = time.perf_counter()
    with subprocess.Popen(
        command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("bare ONNX Runtime does not come up")
        return time.perf_counter() - started


def _environment() -> dict[str, str]:
    """Nothing of the caller's; no usage reports, which would be part of what is measured."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{ROOT / 'layers' / 'droplens'}",
        "ORT_DISABLE_TELEMETRY": "1",
    }
