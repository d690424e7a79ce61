"""The server where nothing but the temporary folder can be written, as on a serverless endpoint."""

import http.client
import random
from pathlib import Path

from PIL import Image

from tests.support.repository import ROOT
from tests.support.trainer import (
    drawn_records,
    lay_out,
    run_training,
    serving,
)
from trainer.nets.convert import write_backbone

# Every write of the interpreter elsewhere fails as on a read-only file system.
READ_ONLY = """
import errno, os, sys, tempfile

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate"}

def watch(event, given):
    writes = event in CHANGES or (event == "open" and given[2] is not None and given[2] & WRITES)
    if writes and isinstance(given[0], (str, bytes, os.PathLike)):
        path = os.path.realpath(os.fsdecode(given[0]))
        if not (path + "/").startswith((os.environ["TMPDIR"] + "/", "/dev/")):
            print("write refused:", path, flush=True)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

sys.addaudithook(watch)
"""


def test_it_starts_and_answers_small_and_large_pictures(tmp_path: Path) -> None:
    weights = write_backbone(tmp_path / "weights").parent
    base = lay_out(tmp_path / "ml", drawn_records(6), drawn_records(2, first_seed=100))
    assert run_training(base, weights).returncode == 0
    image = Image.frombytes("RGB", (900, 900), random.Random(0).randbytes(900 * 900 * 3))
    image.save(tmp_path / "large.png")
    large = (tmp_path / "large.png").read_bytes()
    assert len(large) > 2**21  # more than the server keeps in memory
    watch, scratch = tmp_path / "watch", tmp_path / "scratch"
    watch.mkdir()
    scratch.mkdir()
    (watch / "sitecustomize.py").write_text(READ_ONLY, "utf-8")
    path = f"{watch}:{ROOT}:{ROOT / 'layers/droplens'}"
    with serving(base, weights, PYTHONPATH=path, TMPDIR=str(scratch)) as server:
        for picture, kind in ((drawn_records(1)[0][1], "image/jpeg"), (large, "image/png")):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request("POST", "/invocations", picture, {"Content-Type": kind})
            assert connection.getresponse().status == 200
            connection.close()
        assert "write refused" not in "".join(server.lines)
