"""Networks of timm, with random weights: provided, pinned, exported, quantised and trained."""

import hashlib
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.support.torch_jobs import TorchJobs
from tests.support.trainer import accuracy, drawn_records, lay_out

# One whose features timm's num_features does not count, one with a plain ReLU, and one that is made
# for images of one size.
MOBILE, PLAIN, FIXED = "mobilenetv3_small_050.lamb_in1k", "resnet10t", "vit_tiny_patch16_224"
REVISION = "0123456789abcdef0123456789abcdef01234567"
TRAIN, VALIDATION = drawn_records(8), drawn_records(4, first_seed=100)


@pytest.fixture(scope="module")
def computed(
    torch_jobs: TorchJobs, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("computed")
    out = folder / "out.npz"
    code, said = torch_jobs.call(folder, "torch_timm", str(out), MOBILE, PLAIN, FIXED)
    assert code == 0, said
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
def weights(torch_jobs: TorchJobs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the hub, or the user, would have of MOBILE."""
    folder = tmp_path_factory.mktemp("safetensors")
    path = folder / "model.safetensors"
    code, said = torch_jobs.call(folder, "torch_weights", MOBILE, str(path))
    assert code == 0, said
    return path


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as serves one file of a repository."""

    content = b""

    def do_HEAD(self) -> None:
        self.respond(False)

    def do_GET(self) -> None:
        self.respond(True)

    def respond(self, body: bool) -> None:
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


@pytest.fixture(scope="module")
def hub(weights: Path) -> Iterator[str]:
    handler = type("OneFile", (Hub,), {"content": weights.read_bytes()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# What builds are asked for: the network, and the user's file, if there is one.
BUILDS = {
    "given": (MOBILE, "weights"),
    "fetched": (MOBILE, ""),
    "not on the hub": (PLAIN, ""),
    "unknown": ("nonsense", ""),
    "damaged": (MOBILE, "damaged"),
    # timm alone would go on with random weights.
    "of another network": (PLAIN, "weights"),
}


@dataclass(frozen=True, slots=True)
class Build:
    """How a build ended, what it said last, and the folder that it wrote."""

    code: int
    said: str
    out: Path

    @property
    def record(self) -> dict[str, str]:
        return json.loads((self.out / "backbone.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def builds(
    torch_jobs: TorchJobs, hub: str, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Build]:
    folder = tmp_path_factory.mktemp("builds")
    contents = {"weights": weights.read_bytes(), "damaged": b"damaged"}
    orders = []
    for number, (name, content) in enumerate(BUILDS.values()):
        given = folder / f"{number}/given"
        given.mkdir(parents=True)
        if content:
            (given / "backbone.safetensors").write_bytes(contents[content])
        orders.append([name, str(given), str(folder / f"{number}/weights")])
    asked = folder / "orders.json"
    asked.write_text(json.dumps(orders), "utf-8")
    code, said = torch_jobs.call(folder, "torch_provide", str(asked), HF_ENDPOINT=hub)
    assert code == 0, said
    answered = [json.loads(line) for line in said.splitlines() if line.startswith("[")]
    return {
        title: Build(code, said, Path(out))
        for title, (code, said), (*_, out) in zip(BUILDS, answered, orders, strict=True)
    }


def test_a_network_is_trained_from_the_weights_that_its_image_has(
    torch_jobs: TorchJobs, builds: dict[str, Build], weights: Path, tmp_path: Path
) -> None:
    settings = {"recipe": "finetune", "backbone": MOBILE, "epochs": "2", "use_weighted_loss": "1"}
    base = lay_out(tmp_path, TRAIN, VALIDATION, hyperparameters=settings)
    code, said = torch_jobs.run(base, DROPLENS_WEIGHTS=str(builds["given"].out))
    assert code == 0, said
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
    ],
)
def test_other_weights_are_refused(
    torch_jobs: TorchJobs,
    builds: dict[str, Build],
    tmp_path: Path,
    backbone: str,
    tampered: bool,
    sentence: str,
) -> None:
    settings = {"recipe": "finetune", "backbone": backbone}
    base = lay_out(tmp_path, TRAIN, VALIDATION, hyperparameters=settings)
    shutil.copytree(builds["given"].out, base / "weights")
    if tampered:
        with (base / "weights/backbone.safetensors").open("ab") as file:
            file.write(b"more")
    assert torch_jobs.run(base, DROPLENS_WEIGHTS=str(base / "weights"))[0] == 1
    failure = (base / "output/failure").read_text("utf-8")
    assert sentence in failure
    assert "Traceback" not in failure


def test_a_build_fetches_weights_from_the_hub_and_records_their_digest(
    builds: dict[str, Build], hub: str, weights: Path
) -> None:
    made = builds["fetched"]
    assert made.code == 0, made.said
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    source = f"{hub}/timm/{MOBILE}@{REVISION}"
    assert made.said == f"weights of {MOBILE} from {source}, SHA-256 {digest}"
    assert made.record == {"name": MOBILE, "source": source, "sha256": digest}
    assert (made.out / "backbone.safetensors").read_bytes() == weights.read_bytes()
    names = {path.name for path in made.out.iterdir()}
    assert names == {"backbone.json", "backbone.safetensors"}


def test_a_build_takes_the_user_s_file(builds: dict[str, Build], weights: Path) -> None:
    made = builds["given"]
    assert made.code == 0, made.said
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert made.record == {"name": MOBILE, "source": "the user's file", "sha256": digest}


@pytest.mark.parametrize(
    ("title", "sentence"),
    [
        ("not on the hub", "provide the weights by the stack's parameter BackboneWeights"),
        ("unknown", "has no network nonsense"),
        ("damaged", f"the weights do not fit {MOBILE}: "),
        ("of another network", f"the weights do not fit {PLAIN}: "),
    ],
)
def test_what_a_build_cannot_provide_ends_it_with_a_sentence(
    builds: dict[str, Build], title: str, sentence: str
) -> None:
    made = builds[title]
    assert made.code == 1
    assert made.said.startswith("ERROR: ")
    assert sentence in made.said
    assert not (made.out / "backbone.json").exists()
