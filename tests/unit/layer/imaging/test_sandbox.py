"""What a picture does to the process that decodes it, it does to that process only."""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from droplens.imaging import protocol, sandbox
from droplens.imaging.prepare import ImageError, Limits, Preprocessing, decode, prepare
from tests.support import hostile_images, needs

pytestmark = needs.only_with("linux", sys.platform == "linux", "the sandbox's limits are Linux's")

# In a process that has given up what the sandbox gives up, each line of the standard input tried.
CONFINED = """
import os, signal, socket, subprocess, sys
from droplens.imaging.confine import confine, limit
attempts = sys.stdin.read().splitlines()
limit(200 * 2**20, 1.5)
assert confine()
for attempt in attempts:
    try:
        exec(attempt)
    except BaseException as error:
        os.write(1, f"{type(error).__name__}\\n".encode())
    else:
        os.write(1, b"done\\n")
os._exit(0)
"""


@pytest.fixture(autouse=True)
def no_worker() -> Iterator[None]:
    sandbox.stop()
    yield
    sandbox.stop()


def webp(side: int = 64) -> bytes:
    data = BytesIO()
    Image.linear_gradient("L").resize((side, side)).convert("RGB").save(data, "WEBP", lossless=True)
    return data.getvalue()


def slow() -> bytes:
    """A picture that takes longer than it may."""
    return hostile_images.bmp_of_runs(24 * hostile_images.MIB)


def confined(repo_root: Path, *attempts: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", CONFINED],
        input="\n".join(attempts),
        env={"PYTHONPATH": str(repo_root / "layers" / "droplens"), "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd')",
        "open('/proc/%d/environ' % os.getppid())",
        "os.listdir('/')",
        "socket.socket()",
        "os.kill(os.getppid(), 0)",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "subprocess.run(['/bin/true'])",
        "os.setpriority(os.PRIO_PROCESS, 0, -1)",
        "__import__('resource').setrlimit(9, (-1, -1))",
        "signal.setitimer(signal.ITIMER_PROF, 0)",
    ],
)
def test_it_may_not(attempt: str, repo_root: Path) -> None:
    done = confined(repo_root, attempt)
    # ValueError is how Python's `resource` tells EPERM, itimer_error how `signal` does.
    assert done.stdout in ("PermissionError\n", "ValueError\n", "itimer_error\n"), done.stderr


def test_it_may_compute_and_write(repo_root: Path) -> None:
    done = confined(repo_root, "sorted(range(100_000), reverse=True)", "bytearray(50 * 2**20)")
    assert (done.returncode, done.stdout) == (0, "done\ndone\n")


def test_it_may_not_take_more_memory_than_its_own(repo_root: Path) -> None:
    assert confined(repo_root, "bytearray(300 * 2**20)").stdout == "MemoryError\n"


def test_it_may_not_compute_for_longer(repo_root: Path) -> None:
    assert confined(repo_root, "while True: pass").returncode == -signal.SIGPROF


def test_plain_pictures_need_none() -> None:
    for name in ("jpeg", "progressive", "png"):
        decode(hostile_images.sound()[name])
    assert sandbox.worker_pid() is None


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "palette", "deep"])
def test_plain_pictures_are_the_same_where_they_are_isolated(name: str) -> None:
    data = hostile_images.sound()[name]
    (here, info), (there, told) = decode(data), decode(data, isolated=True)
    assert sandbox.worker_pid() is not None
    assert info == told
    assert ImageChops.difference(here, there).getbbox() is None
    assert prepare(data, Preprocessing(32)) == prepare(data, Preprocessing(32), isolated=True)


def test_what_was_prepared_passes_through_isolation_byte_for_byte() -> None:
    photo = Image.effect_mandelbrot((64, 48), (-2, -1.2, 0.6, 1.2), 60).convert("RGB")
    out = BytesIO()
    photo.save(out, "JPEG", quality=90)
    prepared, info = prepare(out.getvalue(), Preprocessing(48))
    assert prepare(prepared, Preprocessing(48), isolated=True) == (prepared, info)


def test_one_worker_is_kept_for_all_threads() -> None:
    data = [webp(48 + 8 * number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        sizes = [picture.size for picture, _ in pool.map(decode, data * 4)]
    assert sizes == [(48 + 8 * number,) * 2 for number in range(8)] * 4
    [worker] = [
        child
        for child in children(os.getpid())  # pytest-xdist's process may have others
        if b"droplens.imaging.worker" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    assert worker == sandbox.worker_pid()


def test_the_environment_does_not_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not theirs")
    decode(webp())
    environment = Path(f"/proc/{sandbox.worker_pid()}/environ").read_bytes()
    assert b"AWS" not in environment
    assert b"not theirs" not in environment


def test_what_takes_too_long_is_refused_for_that() -> None:
    with pytest.raises(ImageError, match=r"more than 2\.\d seconds of a core") as refused:
        decode(slow())
    assert refused.value.code == "image.unreadable"
    assert decode(webp())[0].size == (64, 64)


def test_the_time_is_that_of_the_pixels_that_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progressive JPEG of very many pixels takes long to decode to few."""
    data = BytesIO()
    Image.linear_gradient("L").resize((3200, 3200)).convert("RGB").save(
        data, "JPEG", progressive=True, subsampling=0
    )
    monkeypatch.setattr(protocol, "_MANY_PIXELS", 3200**2)
    monkeypatch.setattr(protocol, "_CPU_SECONDS_OF_MANY", 0.02)
    assert decode(data.getvalue(), shorter_side=200)[0].size == (400, 400)
    with pytest.raises(ImageError, match=r"more than 0\.0 seconds of a core"):
        decode(data.getvalue())


def test_what_takes_too_much_memory_is_refused_for_that() -> None:
    # Ten thousand pixels, of which each row of tiles says that it has a gigabyte.
    tags = [(256, 3, 1, 100), (257, 3, 1, 100), (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1)]
    tags += [(277, 3, 1, 1), (322, 4, 1, 32_768), (323, 4, 1, 32_768), (324, 4, 1, 8)]
    tags += [(325, 4, 1, 8)]
    data = b"II*\0" + struct.pack("<IH", 8, len(tags))
    data += b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(400)
    with pytest.raises(ImageError) as refused:
        decode(data)
    assert refused.value.code == "image.unreadable"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_what_ends_its_decoder_is_refused_and_nobody_else_is(number: signal.Signals) -> None:
    decode(webp())  # the worker has started
    with ThreadPoolExecutor(2) as pool:
        attacked = pool.submit(decode, slow())
        os.kill(fork_at_work(), number)
        assert decode(webp())[0].size == (64, 64)
        with pytest.raises(ImageError, match=rf"ends its decoder \({number.name}\)") as refused:
            attacked.result()
    assert refused.value.code == "image.unreadable"


def test_what_is_killed_for_others_memory_is_tried_again() -> None:
    decode(webp())
    with ThreadPoolExecutor(1) as pool:
        attacked = pool.submit(decode, slow())
        os.kill(fork_at_work(), signal.SIGKILL)
        with pytest.raises(ImageError, match="seconds of a core"):  # the second time
            attacked.result()


def test_a_worker_that_is_gone_is_replaced() -> None:
    decode(webp())
    lost = sandbox.worker_pid()
    assert lost is not None
    os.kill(lost, signal.SIGKILL)
    assert decode(webp())[0].size == (64, 64)
    assert sandbox.worker_pid() not in (None, lost)


def test_a_copy_of_the_process_has_a_worker_of_its_own() -> None:
    decode(webp())
    ours = sandbox.worker_pid()
    pid = os.fork()
    if not pid:
        right = decode(webp())[0].size == (64, 64) and sandbox.worker_pid() not in (None, ours)
        sandbox.stop()
        os._exit(0 if right else 1)
    assert os.waitpid(pid, 0)[1] == 0
    decode(webp())
    assert sandbox.worker_pid() == ours


def test_the_worker_ends_with_its_process(repo_root: Path) -> None:
    code = (
        "import os, sys;"
        "from droplens.imaging import sandbox; from droplens.imaging.prepare import decode;"
        "decode(sys.stdin.buffer.read()); print(sandbox.worker_pid(), flush=True);"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=webp(),
        env={**os.environ, "PYTHONPATH": str(repo_root / "layers" / "droplens")},
        capture_output=True,
        check=False,
    )
    worker = Path(f"/proc/{int(done.stdout)}")
    end = time.monotonic() + 30
    while worker.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert not worker.exists()


def test_limits_hold_where_only_a_decoder_knows_the_size() -> None:
    data = hostile_images.sound()["avif"]
    with pytest.raises(ImageError) as refused:
        decode(data, Limits(max_pixels=1000))
    assert refused.value.code == "image.too_many_pixels"


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def fork_at_work() -> int:
    """The process that decodes, once it has begun to."""
    worker = sandbox.worker_pid()
    assert worker is not None
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for pid in children(worker):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[11]) > 10:  # hundredths of a second
                return pid
        threading.Event().wait(0.005)
    raise AssertionError("nothing is decoded")
