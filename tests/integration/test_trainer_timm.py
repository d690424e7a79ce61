"""Networks of timm, with random weights: provided, pinned, exported, quantised and trained."""

import hashlib
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support import needs
from tests.support.repository import ROOT
from tests.support.trainer import accuracy, drawn_records, environment, lay_out

# One whose features timm's num_features does not count, one with a plain ReLU, and one that is made
# for images of one size.
MOBILE, PLAIN, FIXED = "mobilenetv3_small_050.lamb_in1k", "resnet10t", "vit_tiny_patch16_224"
REVISION = "0123456789abcdef0123456789abcdef01234567"
TRAIN, VALIDATION = drawn_records(8), drawn_records(4, first_seed=100)
# Writes a state dict of random weights, with the classifier.
RANDOM_WEIGHTS = """
import sys, timm, torch
from safetensors.torch import save_file
torch.manual_seed(0)
save_file(timm.create_model(sys.argv[1]).state_dict(), sys.argv[2])
"""


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter of the environment with PyTorch and timm."""
    return str(needs.environment("torch"))


def run(
    python: str, folder: Path, module: str, *arguments: str, **further: str
) -> subprocess.CompletedProcess[str]:
    """Run a module where timm can be imported, on this machine's processor and network only."""
    return subprocess.run(
        [python, str(ROOT / "tests/integration/with_timm.py"), module, *arguments],
        env=environment(folder, folder / "weights", HF_HUB_DISABLE_TELEMETRY="1", **further),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def computed(python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("computed")
    out = folder / "out.npz"
    done = run(python, folder, "tests.integration.torch_timm", str(out), MOBILE, PLAIN, FIXED)
    assert done.returncode == 0, done.stderr
    with np.load(out) as found:
        return dict(found)


@pytest.mark.parametrize("name", [MOBILE, PLAIN, FIXED])
def test_the_exported_graph_computes_what_pytorch_does(
    computed: dict[str, np.ndarray], name: str
) -> None:
    expected = computed[f"{name}.torch"]
    assert expected.std() > 0
    error = np.abs(computed[f"{name}.onnx"] - expected).max()
    assert error <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", [MOBILE, PLAIN])
def test_convolutions_are_quantised_and_compute_nearly_the_same(
    computed: dict[str, np.ndarray], name: str
) -> None:
    fp32, int8 = computed[f"{name}.onnx"], computed[f"{name}.int8"]
    assert np.abs(int8 - fp32).max() > 0
    # What tells images apart: the mean over them is left out.
    apart = [(each - each.mean(axis=0)).ravel() for each in (fp32, int8)]
    assert np.corrcoef(*apart)[0, 1] >= 0.95


def test_each_block_has_its_own_depth(computed: dict[str, np.ndarray]) -> None:
    # Twelve blocks of the transformer, beside what is before and after them.
    assert computed[f"{FIXED}.depths"] > 12


@pytest.fixture(scope="module")
def weights(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the hub, or the user, would have of MOBILE."""
    folder = tmp_path_factory.mktemp("safetensors")
    script = folder / "random_weights.py"
    script.write_text(RANDOM_WEIGHTS, "utf-8")
    path = folder / "model.safetensors"
    done = run(python, folder, "random_weights", MOBILE, str(path), PYTHONPATH=_with(folder))
    assert done.returncode == 0, done.stderr
    return path


def _with(folder: Path) -> str:
    return os.pathsep.join(map(str, (ROOT, ROOT / "layers/droplens", folder)))


@pytest.fixture(scope="module")
def image(python: str, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `weights` as the image's build writes it, of the user's file."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "given").mkdir()
    (folder / "given/backbone.safetensors").write_bytes(weights.read_bytes())
    done = provide(python, folder, MOBILE)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def provide(
    python: str, folder: Path, name: str, **further: str
) -> subprocess.CompletedProcess[str]:
    given, out = str(folder / "given"), str(folder / "weights")
    return run(
        python, folder, "trainer.nets.pretrained", name, "--given", given, "--out", out, **further
    )


def test_a_network_is_trained_from_the_weights_that_its_image_has(
    python: str, image: Path, weights: Path, tmp_path: Path
) -> None:
    settings = {"recipe": "finetune", "backbone": MOBILE, "epochs": "2", "use_weighted_loss": "1"}
    base = lay_out(tmp_path, TRAIN, VALIDATION, hyperparameters=settings)
    done = run(python, base, "trainer", "train", DROPLENS_WEIGHTS=str(image / "weights"))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((base / "model/training.json").read_text("utf-8"))
    assert told["backbone"] == {
        "name": MOBILE,
        "source": "the user's file",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    assert accuracy(base, VALIDATION) == told["accuracy"]["validation"]


@pytest.mark.parametrize(
    ("backbone", "tampered", "sentence"),
    [
        (PLAIN, False, f"without the pretrained weights of {PLAIN}: build it with the stack's"),
        (MOBILE, True, "backbone.safetensors has the SHA-256 "),
        ("nonsense", False, "without the pretrained weights of nonsense"),
    ],
)
def test_other_weights_are_refused(
    python: str, image: Path, tmp_path: Path, backbone: str, tampered: bool, sentence: str
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for path in (image / "weights").iterdir():
        (folder / path.name).write_bytes(path.read_bytes() + bytes(tampered))
    if tampered:
        record = (image / "weights/backbone.json").read_bytes()
        (folder / "backbone.json").write_bytes(record)
    settings = {"recipe": "finetune", "backbone": backbone}
    base = lay_out(tmp_path, TRAIN, VALIDATION, hyperparameters=settings)
    assert run(python, base, "trainer", "train").returncode == 1
    failure = (base / "output/failure").read_text("utf-8")
    assert sentence in failure
    assert "Traceback" not in failure


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as serves one file of a repository."""

    content = b""
    asked: list[str] = []  # noqa: RUF012  of the class that each test makes

    def do_HEAD(self) -> None:
        self.respond(False)

    def do_GET(self) -> None:
        self.respond(True)

    def respond(self, body: bool) -> None:
        self.asked.append(self.path)
        found = self.path == f"/timm/{MOBILE}/resolve/main/model.safetensors"
        self.send_response(200 if found else 404)
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.content) if found else 0))
        self.end_headers()
        if body and found:
            self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(weights: Path) -> Iterator[str]:
    handler = type("OneFile", (Hub,), {"content": weights.read_bytes(), "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_build_fetches_weights_from_the_hub_and_records_their_digest(
    python: str, hub: str, weights: Path, tmp_path: Path
) -> None:
    done = provide(python, tmp_path, MOBILE, HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stdout + done.stderr
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    source = f"{hub}/timm/{MOBILE}@{REVISION}"
    assert f"weights of {MOBILE} from {source}, SHA-256 {digest}" in done.stdout
    record = json.loads((tmp_path / "weights/backbone.json").read_text("utf-8"))
    assert record == {"name": MOBILE, "source": source, "sha256": digest}
    assert (tmp_path / "weights/backbone.safetensors").read_bytes() == weights.read_bytes()
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {
        "backbone.json",
        "backbone.safetensors",
    }


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        (PLAIN, b"", "provide the weights by the stack's parameter BackboneWeights"),
        ("nonsense", b"", "has no network nonsense"),
        (MOBILE, b"damaged", f"the weights do not fit {MOBILE}: "),
        # Another network's: timm alone would go on with random weights.
        (PLAIN, None, f"the weights do not fit {PLAIN}: "),
    ],
)
def test_what_the_build_cannot_provide_ends_it_with_a_sentence(
    python: str, weights: Path, tmp_path: Path, name: str, given: bytes | None, sentence: str
) -> None:
    (tmp_path / "given").mkdir()
    content = weights.read_bytes() if given is None else given
    if content:
        (tmp_path / "given/backbone.safetensors").write_bytes(content)
    # Port 9 discards what it gets; nobody listens there.
    done = provide(python, tmp_path, name, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    *_, last = done.stdout.splitlines()
    assert last.startswith("ERROR: ")
    assert sentence in last
    assert not (tmp_path / "weights/backbone.json").exists()
