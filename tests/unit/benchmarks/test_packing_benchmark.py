"""The benchmark measures what it says."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.packing import corpus, join_memory, measure, quality

HOLD = """
import subprocess, sys, time
held = bytearray(b"x") * (60 * 10**6)
if len(sys.argv) == 1:
    subprocess.run([sys.executable, sys.argv[0], "child"], check=True)
time.sleep(0.5)
"""


def test_memory_is_that_of_all_processes_together(tmp_path: Path) -> None:
    script = tmp_path / "hold.py"
    script.write_text(HOLD)
    cost = measure.run([sys.executable, str(script)], dict(os.environ), tmp_path / "log", tmp_path)
    assert 120 < cost.peak_rss_mb < 200
    assert cost.seconds > 1
    assert cost.cpu_seconds < cost.seconds


def test_a_command_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        measure.run(
            [sys.executable, "-c", "raise SystemExit('no such thing')"],
            dict(os.environ),
            tmp_path / "log",
            tmp_path,
        )


def test_the_relay_delays_and_loses_nothing(repo_root: Path) -> None:
    sent = os.urandom(3_000_000)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        command = [sys.executable, "-m", "benchmarks.packing.latency"]
        command += [str(server.getsockname()[1]), "50"]
        with subprocess.Popen(command, cwd=repo_root, stdout=subprocess.PIPE, text=True) as relay:
            try:
                assert relay.stdout is not None
                port = int(relay.stdout.readline())
                started = time.monotonic()
                with socket.create_connection(("127.0.0.1", port)) as client:
                    there, _ = server.accept()
                    client.sendall(sent[:1])
                    assert there.recv(1) == sent[:1]
                    assert time.monotonic() - started >= 0.05
                    # Read meanwhile: the buffers on the way need not hold all that is sent.
                    with there, there.makefile("rb") as arrived:
                        received = pool.submit(arrived.read)
                        client.sendall(sent[1:])
                        client.shutdown(socket.SHUT_WR)
                        assert received.result(30) == sent[1:]
            finally:
                relay.kill()


@pytest.mark.parametrize("real", [True, False])
def test_no_picture_of_a_corpus_is_like_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, real: bool
) -> None:
    photographs = tmp_path / "photographs"
    (photographs / "a").mkdir(parents=True)
    Image.effect_noise((300, 200), 50).save(photographs / "a" / "1.jpg")
    monkeypatch.setattr(corpus, "PICTURES", 4)
    made = corpus.make(tmp_path, photographs if real else None)
    files = [path.read_bytes() for path in made.folder.rglob("*.jpg")]
    assert len(set(files)) == made.count == 4
    assert sum(map(len, files)) == made.bytes
    assert corpus.make(tmp_path, photographs if real else None) == made


def test_a_picture_as_it_was_has_no_noise_but_its_own(tmp_path: Path) -> None:
    picture = Image.merge("RGB", [Image.effect_noise((256, 256), 60)] * 3)
    path = tmp_path / "a.jpg"
    picture.save(path, quality=95)
    picture.resize((64, 64), Image.Resampling.LANCZOS).save(tmp_path / "good.jpg", quality=95)
    picture.resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "poor.jpg", quality=95)
    good, poor = (
        quality.decibels(tmp_path, ["a.jpg"], {"a.jpg": (tmp_path / name).read_bytes()})[0]
        for name in ("good.jpg", "poor.jpg")
    )
    assert good > 35
    assert poor < good - 5


def test_reports_that_are_made_up_are_joined_as_real_ones() -> None:
    joined = join_memory.join(1200, 30, shards=3)
    assert (joined.pictures, joined.skipped) == (1200, 30)
    assert 30 < joined.peak_mib < 1000


def test_two_joins_give_what_a_picture_takes() -> None:
    less, more = join_memory.Joined(1000, 0, 100, 1), join_memory.Joined(3000, 0, 101, 2)
    assert join_memory.bytes_each(less, more) == 524.288
