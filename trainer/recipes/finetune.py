"""Train the recipe `finetune`: a whole pretrained net, in PyTorch, on a GPU where there is one.

`finetune` is the run, from top to bottom; `Fitting` is its state.

The random numbers of a step are seeded by (seed, epoch, step), so that epochs can be repeated: a
run that was killed resumes at its last checkpoint and ends with the same weights.

The recipe follows "How to train your ViT" and "ResNet strikes back" (Steiner et al., 2021,
arXiv:2106.10270; Wightman et al., 2021, arXiv:2110.00476) as far as a few thousand images allow.
"""

import hashlib
import json
import logging
import os
import pickle
import shutil
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from math import cos, isfinite, log1p, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from trainer.artefact import WEIGHTS_FILE
from trainer.cpu import cores
from trainer.data.decode import decode
from trainer.data.features import Channel, DatasetError
from trainer.data.preprocess import Resize
from trainer.job import Job, Outcome
from trainer.nets.assemble import assemble
from trainer.nets.backbone import Backbone, export, load_backbone
from trainer.recipes.augment import Augmentation
from trainer.recipes.novelty import NoveltyFit, fit_novelty
from trainer.recipes.ridge_head import Head, fit_head
from trainer.recipes.temperature import Temperature, fit_temperature
from trainer.settings import Hyperparameters, SettingsError

log = logging.getLogger(__name__)

# Training images are larger than the net's input by this factor, so that crops keep their details.
MARGIN = 1.15
LABEL_SMOOTHING = 0.1
DROPOUT = 0.2
# The first layer's learning rate as a share of the last one's, with a constant ratio from layer to
# layer: early layers, which detect edges, need the least change.
LOWEST_RATE = 0.15
# AdamW's rate scales with the square root of the batch size (Malladi et al., arXiv:2205.10287).
REFERENCE_BATCH = 128
WARM_UP = 0.1
AVERAGED_SHARE = 0.05
# Compiling takes about a minute, which a run of this many images is expected to save.
COMPILE_PAYS_FROM = 2_000_000
# Pixels are kept on the GPU where they take at most this share of its free memory.
RESIDENT_SHARE = 0.5
MAX_MODEL_BYTES = 2**31
CHECKPOINT_FILE = "checkpoint.pt"
MODEL_CHANNEL, MODEL_ARCHIVE = "model", "model.tar.gz"

State = dict[str, Any]


def finetune(job: Job) -> Outcome:
    """The run: pixels, net, epochs, and the best epoch's weights as one ONNX graph."""
    device = _device(job)
    torch.set_num_threads(cores())
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    with job.timings.step("decode"):
        training = Pixels.of(job.training, with_margin(job.resize), device)
        validation = Pixels.of(job.validation, job.resize, device)
    with job.timings.step("network"):
        fitting = Fitting(job, Network.start(job, training), training, validation)
        fitting.resume()
    with job.timings.step("epochs"):
        while not fitting.finished:
            fitting.run_epoch()
            fitting.save_checkpoint()
    with job.timings.step("export"):
        outcome = fitting.outcome()
        _write_weights(job, fitting.best_network())
    return outcome


def _device(job: Job) -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if job.settings.device == "gpu":
        raise SettingsError(
            "Hyperparameter device=gpu, but PyTorch finds none here: either the machine has no GPU "
            f"or its driver is too old for CUDA {torch.version.cuda}."
        )
    return torch.device("cpu")


def why_not_compiled(device: torch.device) -> str | None:
    """Why PyTorch cannot compile for `device`, such as a missing C compiler; None if it can."""
    try:
        torch.compile(torch.nn.ReLU())(torch.ones(8, device=device))
    except Exception as error:  # noqa: BLE001  training works without compiling
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None


def with_margin(resize: Resize) -> Resize:
    """The resize to the larger images that crops are taken from."""
    return Resize(width=round(resize.width * MARGIN), height=round(resize.height * MARGIN))


@dataclass(frozen=True, slots=True)
class Pixels:
    """The decoded images of a channel: uint8 [N, height, width, 3], on the GPU where they fit.

    labels: int64 [N], on the device.
    """

    pixels: NDArray[np.uint8] | torch.Tensor
    labels: torch.Tensor
    device: torch.device

    @classmethod
    def of(cls, channel: Channel, resize: Resize, device: torch.device) -> "Pixels":
        decoded = decode(channel, resize)
        labels = torch.from_numpy(channel.labels).to(device)
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if decoded.nbytes <= RESIDENT_SHARE * free:
                return cls(_uploaded(decoded, device), labels, device)
        return cls(decoded, labels, device)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, order: NDArray[np.int64], size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Pixels and labels on the device; the last batch may be smaller.

        From the host's memory, each batch is gathered while the previous one is trained on.
        """
        chosen = torch.from_numpy(order).to(self.device).split(size)
        if isinstance(self.pixels, torch.Tensor):
            for chunk in chosen:
                yield self.pixels[chunk], self.labels[chunk]
            return
        parts = np.split(order, range(size, len(order), size))
        with ThreadPoolExecutor(1, "batches") as executor:
            following = executor.submit(self._gather, parts[0])
            for number, chunk in enumerate(chosen, start=1):
                gathered = following.result()
                if number < len(parts):
                    following = executor.submit(self._gather, parts[number])
                yield gathered.to(self.device, non_blocking=True), self.labels[chunk]

    def _gather(self, chosen: NDArray[np.int64]) -> torch.Tensor:
        gathered = torch.from_numpy(self.pixels[chosen])
        return gathered.pin_memory() if self.device.type == "cuda" else gathered


def _uploaded(decoded: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    pixels = torch.empty(decoded.shape, dtype=torch.uint8, device=device)
    for first in range(0, len(decoded), 1024):
        part = slice(first, first + 1024)
        pixels[part] = torch.from_numpy(np.array(decoded[part]))
    return pixels


class Network(nn.Module):
    """Backbone, dropout and linear classifier: images [N, 3, H, W] of 0 to 255 to logits."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.features, classes)
        for name, value in (("mean", backbone.mean), ("deviation", backbone.deviation)):
            tensor = torch.tensor(value).view(1, 3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def start(cls, job: Job, training: Pixels) -> "Network":
        """A network with pretrained weights, or with those of the model in channel `model`."""
        settings = job.settings
        torch.manual_seed(settings.seed)
        earlier = _read_earlier(job)
        pretrained = settings.use_pretrained_model and earlier is None
        network = cls(
            load_backbone(settings.backbone, pretrained, settings.image_shape, job.weights),
            len(job.classes),
        )
        nn.init.normal_(network.classifier.weight, std=0.01)
        nn.init.zeros_(network.classifier.bias)
        network.to(training.device)
        if earlier is not None:
            network.load_earlier(earlier, job.classes)
        elif pretrained:
            network.fit_classifier(job, training)
        return network

    @torch.inference_mode()
    def fit_classifier(self, job: Job, training: Pixels) -> None:
        """Initialise the classifier by a ridge head on the pretrained features, as in `probe`.

        Gradients of a randomly initialised classifier distort the pretrained features (Kumar et
        al., 2022, arXiv:2202.10054).
        """
        features = self.features_of(training, job.settings)
        labels, classes = training.labels.cpu().numpy(), len(job.classes)
        head = fit_head(features, labels, classes, job.settings.seed).head
        # The head's scores are 1 for the true class and 0 for others; the smoothed labels are most
        # likely at this difference of logits.
        margin = log1p(classes * (1 - LABEL_SMOOTHING) / LABEL_SMOOTHING)
        self.classifier.weight.copy_(torch.from_numpy(head.weight.T * margin))
        self.classifier.bias.copy_(torch.from_numpy(head.bias * margin))

    @torch.inference_mode()
    def features_of(self, images: Pixels, settings: Hyperparameters) -> NDArray[np.float32]:
        """float32 [N, features] of training images, resized to the network's input."""
        self.eval()
        features = []
        order = np.arange(len(images))
        for pixels, _ in images.batches(order, 2 * settings.mini_batch_size):
            x = pixels.permute(0, 3, 1, 2).float()
            x = functional.interpolate(x, settings.image_shape, mode="bilinear", antialias=True)
            features.append(self.features(x).cpu())
        return torch.cat(features).numpy()

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, features] of images [N, 3, H, W] of 0 to 255."""
        x = (x - self.mean) / self.deviation
        return self.backbone(x.contiguous(memory_format=torch.channels_last))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(functional.dropout(self.features(x), DROPOUT, self.training))

    def load_earlier(self, earlier: State, classes: list[str]) -> None:
        """Load an earlier net's weights, with the classifier's rows of classes that both have."""
        state = dict(earlier["state"])
        rows = {name: row for row, name in enumerate(earlier["classes"])}
        kept = [(ours, rows[name]) for ours, name in enumerate(classes) if name in rows]
        for name in ("classifier.weight", "classifier.bias"):
            merged = self.state_dict()[name].clone()
            if kept:
                ours, theirs = (list(each) for each in zip(*kept, strict=True))
                merged[ours] = state[name][theirs]
            state[name] = merged
        self.load_state_dict(state)
        log.info("training further: %d of %d classes were known", len(kept), len(classes))

    def parameter_groups(self, rate: float, decay: float) -> list[State]:
        """Parameters by depth, each with its learning rate; no weight decay of biases and norms."""
        depths = [*self.backbone.depths(), [self.classifier]]
        placed = {
            id(parameter): depth
            for depth, parts in enumerate(depths)
            for part in parts
            for parameter in part.parameters()
        }
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for parameter in self.parameters():
            # Parameters outside of all parts, such as a class token, count as the first layer.
            key = (placed.get(id(parameter), 0), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
        return [
            {
                "params": parameters,
                "rate": rate * LOWEST_RATE ** (1 - depth / (len(depths) - 1)),
                "weight_decay": decay if decays else 0.0,
            }
            for (depth, decays), parameters in groups.items()
        ]


class Fitting:
    """The state of a training: weights, their average, the optimiser and the epochs so far."""

    def __init__(self, job: Job, network: Network, training: Pixels, validation: Pixels) -> None:
        settings = job.settings
        self.job, self.settings = job, settings
        self.training, self.validation = training, validation
        self.device = training.device
        self.network = network.to(memory_format=torch.channels_last)
        self.average = deepcopy(self.network).eval()
        self.best: State = {}
        self.epochs: list[dict[str, Any]] = []

        self.batch = min(settings.mini_batch_size, len(training))
        if self.batch < 2:
            raise SettingsError("Hyperparameter mini_batch_size must be at least 2 for finetune.")
        self.steps = len(training) // self.batch
        self.total_steps = self.steps * settings.epochs
        self.augmentation = Augmentation.suited(settings.augmentation_type, len(training))
        cuda = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.network.parameter_groups(
                settings.learning_rate * (self.batch / REFERENCE_BATCH) ** 0.5,
                settings.weight_decay,
            ),
            betas=(settings.beta_1, settings.beta_2),
            eps=settings.eps,
            fused=cuda,
        )
        self.weights = self._class_weights() if settings.use_weighted_loss else None
        self.compiled = settings.compile == "always" or (
            settings.compile == "auto"
            and cuda
            and self.total_steps * self.batch >= COMPILE_PAYS_FROM
        )
        if self.compiled and (reason := why_not_compiled(self.device)):
            log.warning("the net is not compiled, and trains more slowly: %s", reason)
            self.compiled = False
        self.forward = torch.compile(self.network) if self.compiled else self.network

    def _class_weights(self) -> torch.Tensor:
        """float32 [classes]: reciprocal of a class's frequency, with a mean of 1 over images."""
        counts = torch.bincount(self.training.labels, minlength=len(self.job.classes))
        return len(self.training) / (len(counts) * counts.float())

    def run_epoch(self) -> None:
        """Train one epoch, evaluate the averaged weights, and keep them if they are the best."""
        epoch, started = len(self.epochs), time.monotonic()
        loss, correct = self.train_epoch(epoch)
        images = self.steps * self.batch
        entry: dict[str, Any] = {
            "epoch": epoch,
            "train_loss": float(loss) / images,
            "train_accuracy": float(correct) / images,
            "train_seconds": time.monotonic() - started,
        }
        if not isfinite(entry["train_loss"]):
            raise SettingsError(
                f"The loss became infinite or NaN in epoch {epoch}: a lower learning_rate than "
                f"{self.settings.learning_rate:g} may help."
            )
        log.info("Epoch[%d] Train-accuracy=%.6f", epoch, entry["train_accuracy"])
        if len(self.validation):
            entry |= self._measure(self.average)
            log.info("Epoch[%d] Validation-accuracy=%.6f", epoch, entry["validation_accuracy"])
        entry["seconds"] = time.monotonic() - started
        self.epochs.append(entry)
        if self._best_epoch() == epoch:
            self.best = _copy(self.average.state_dict())

    def train_epoch(self, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums of the loss and of correct predictions over an epoch's augmented images."""
        self.network.train()
        loss_sum = torch.zeros((), device=self.device)
        correct = torch.zeros((), device=self.device)
        order = np.random.default_rng((self.settings.seed, epoch)).permutation(len(self.training))
        order = order[: self.steps * self.batch]
        for number, (pixels, labels) in enumerate(self.training.batches(order, self.batch)):
            rng = np.random.default_rng((self.settings.seed, epoch, number))
            torch.manual_seed(int(rng.integers(2**63)))
            loss, predictions = self._step(pixels, labels, epoch * self.steps + number, rng)
            loss_sum += loss * len(labels)
            correct += (predictions == labels).sum()
        return loss_sum, correct

    def _step(
        self, pixels: torch.Tensor, labels: torch.Tensor, step: int, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = self.settings.image_shape
        x = self.augmentation.views(pixels, height, width, rng)
        targets = functional.one_hot(labels, len(self.job.classes)).float()
        x, targets = self.augmentation.mixed(x, targets, rng)
        share = _rate(step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * share
        with self._precision():
            scores = self.forward(x)
        loss = functional.cross_entropy(
            scores.float(), targets, self.weights, label_smoothing=LABEL_SMOOTHING
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self._update_average(step)
        return loss.detach(), scores.detach().argmax(1)

    def _update_average(self, step: int) -> None:
        """Update the exponential moving average of the weights and the norms' statistics."""
        span = max(AVERAGED_SHARE * self.total_steps, 1)
        kept = min(1 - 1 / span, (1 + step) / (10 + step))
        averages, current = [], []
        for mean, now in zip(
            self.average.state_dict().values(), self.network.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                averages.append(mean)
                current.append(now)
        torch._foreach_lerp_(averages, current, 1 - kept)

    def _precision(self) -> AbstractContextManager[Any]:
        """bfloat16 on a GPU; float32 on a CPU, since most have no units for bfloat16."""
        if self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    @torch.inference_mode()
    def scores(self, network: nn.Module) -> NDArray[np.float32]:
        """float32 [N, classes]: logits of the validation images, resized as in serving."""
        order = np.arange(len(self.validation))
        parts = [
            network(pixels.permute(0, 3, 1, 2).float()).float()
            for pixels, _ in self.validation.batches(order, 2 * self.batch)
        ]
        return torch.cat(parts).cpu().numpy()

    def _measure(self, network: nn.Module) -> dict[str, float]:
        with self._precision():
            scores = torch.from_numpy(self.scores(network))
        labels = self.validation.labels.cpu()
        k = min(self.settings.top_k, len(self.job.classes))
        ranked = scores.topk(k, 1).indices == labels[:, None]
        return {
            "validation_loss": float(functional.cross_entropy(scores, labels)),
            "validation_accuracy": float(ranked[:, 0].float().mean()),
            f"validation_top_{k}_accuracy": float(ranked.any(1).float().mean()),
        }

    def _best_epoch(self) -> int:
        """The epoch of the highest validation accuracy, the last of equal ones."""
        if not len(self.validation):
            return len(self.epochs) - 1
        return max(
            range(len(self.epochs)), key=lambda e: (self.epochs[e]["validation_accuracy"], e)
        )

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stopping ends the run."""
        settings, done = self.settings, len(self.epochs)
        if done >= settings.epochs:
            return True
        patience = settings.early_stopping_patience
        if (
            not (settings.early_stopping and len(self.validation))
            or done < settings.early_stopping_min_epochs
            or done <= patience
        ):
            return False
        accuracies = [entry["validation_accuracy"] for entry in self.epochs]
        before, recent = max(accuracies[:-patience]), max(accuracies[-patience:])
        return recent <= before + settings.early_stopping_tolerance

    # --- Checkpoints ---

    @property
    def _checkpoint(self) -> Path:
        return self.job.folders.checkpoints / CHECKPOINT_FILE

    def _fingerprint(self) -> str:
        """A hash of what must be equal for a run to resume from a checkpoint."""
        settings = asdict(self.settings)
        for name in ("given", "compile", "checkpoint_frequency", "device", "serving_precision"):
            del settings[name]
        archive = self.job.folders.channel(MODEL_CHANNEL) / MODEL_ARCHIVE
        earlier = archive.stat().st_size if archive.is_file() else None
        made_with = [settings, self.job.classes, self.job.dataset, earlier]
        return hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()

    def save_checkpoint(self) -> None:
        """Replace the checkpoint atomically, every checkpoint_frequency epochs and at the end."""
        if len(self.epochs) % self.settings.checkpoint_frequency and not self.finished:
            return
        state = {
            "fingerprint": self._fingerprint(),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "epochs": self.epochs,
        }
        self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self._checkpoint.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._checkpoint)

    def resume(self) -> None:
        """Load the checkpoint, where there is one of the same training."""
        try:
            state = torch.load(self._checkpoint, map_location=self.device, weights_only=True)
        except FileNotFoundError:
            return
        except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
            log.warning("%s cannot be read, training starts over: %s", self._checkpoint, error)
            return
        if state["fingerprint"] != self._fingerprint():
            log.warning("%s is of another training: this one starts over", self._checkpoint)
            return
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.epochs = state["best"], state["epochs"]
        log.info("resumed after epoch %d", len(self.epochs) - 1)

    # --- Results ---

    def best_network(self) -> Network:
        """The network with the averaged weights of the best epoch."""
        self.average.load_state_dict(self.best)
        return self.average

    def outcome(self) -> Outcome:
        """The best epoch's network as an ONNX graph, with accuracies and the report."""
        network, best = self.best_network(), self._best_epoch()
        accuracies = {"train": self.epochs[best]["train_accuracy"]}
        temperature, predictions = Temperature.constant(1), None
        if len(self.validation):
            scores, labels = self.scores(network), self.job.validation.labels
            predictions = scores.argmax(1)
            accuracies["validation"] = float((predictions == labels).mean())
            temperature = Temperature.constant(fit_temperature(scores, labels))
        head = Head(
            network.classifier.weight.detach().cpu().numpy().T.copy(),
            network.classifier.bias.detach().cpu().numpy(),
            temperature,
        )
        resize = self.job.resize
        # Without left-out novelties: the network has learnt every training image, which therefore
        # looks less novel to it than a new one, even where the covariance leaves it out.
        novelty = fit_novelty(network.features_of(self.training, self.settings)).novelty
        features = export(network.backbone, resize.height, resize.width)
        trained = sum(entry["train_seconds"] for entry in self.epochs)
        images = self.steps * self.batch
        report = {
            "epochs": self.epochs,
            "best_epoch": best,
            "stopped_early": len(self.epochs) < self.settings.epochs,
            "calibration": temperature.report(len(self.validation)),
            "novelty": NoveltyFit(novelty, None).report(),
            "augmentation": asdict(self.augmentation),
            "pictures_per_epoch": images,
            "pictures_per_second": len(self.epochs) * images / trained,
            "environment": self._environment(),
        }
        model = assemble(features, head, novelty, resize)
        return Outcome(model, accuracies, report, predictions)

    def _environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = {
            "torch": str(torch.__version__),
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "compiled": self.compiled,
        }
        if self.device.type == "cuda":
            environment |= {
                "device": torch.cuda.get_device_name(self.device),
                "cuda": torch.version.cuda,
                "peak_device_memory_mb": torch.cuda.max_memory_allocated(self.device) >> 20,
                "pixels_on_device": isinstance(self.training.pixels, torch.Tensor),
            }
        return environment


def _rate(step: int, total: int) -> float:
    """The schedule's factor of the learning rate: linear warm-up, then a cosine to 0."""
    warm_up = max(WARM_UP * total, 1)
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 * (1 + cos(pi * (step - warm_up) / max(total - warm_up, 1)))


def _copy(state: State) -> State:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _write_weights(job: Job, network: Network) -> None:
    job.folders.model.mkdir(parents=True, exist_ok=True)
    state = {
        "backbone": job.settings.backbone,
        "classes": job.classes,
        "state": _copy(network.state_dict()),
    }
    torch.save(state, job.folders.model / WEIGHTS_FILE)


def _read_earlier(job: Job) -> State | None:
    """The weights.pt of channel `model`, in the archive that training wrote or as a file."""
    folder = job.folders.channel(MODEL_CHANNEL)
    if not folder.is_dir():
        return None
    path, archive = folder / WEIGHTS_FILE, folder / MODEL_ARCHIVE
    try:
        if archive.is_file():
            path = job.folders.base / "earlier.pt"
            _extract(archive, path)
        earlier: State = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, KeyError):
        raise DatasetError(
            f"Channel {MODEL_CHANNEL} holds no {WEIGHTS_FILE}: only a model of recipe finetune can "
            "be trained further."
        ) from None
    except (tarfile.TarError, EOFError, RuntimeError, pickle.UnpicklingError, OSError) as error:
        raise DatasetError(f"Channel {MODEL_CHANNEL} cannot be read: {error}.") from None
    if earlier["backbone"] != job.settings.backbone:
        raise SettingsError(
            f"Hyperparameter backbone={job.settings.backbone!r}, but the model of channel "
            f"{MODEL_CHANNEL} has {earlier['backbone']!r}."
        )
    return earlier


def _extract(archive: Path, path: Path) -> None:
    with tarfile.open(archive) as tar:
        names = {member.name.removeprefix("./"): member for member in tar if member.isfile()}
        member = names[WEIGHTS_FILE]
        if member.size > MAX_MODEL_BYTES:
            raise DatasetError(
                f"Channel {MODEL_CHANNEL}: {WEIGHTS_FILE} is larger than {MAX_MODEL_BYTES} bytes."
            )
        content = tar.extractfile(member)
        assert content is not None
        with content, path.open("wb") as out:
            shutil.copyfileobj(content, out)
