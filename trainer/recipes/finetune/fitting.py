"""The epochs of a training: steps, evaluations, the best epoch, and when to stop."""

import logging
import time
from copy import deepcopy
from dataclasses import asdict
from math import isfinite
from typing import Any

import numpy as np
import torch

from trainer.job import Job
from trainer.recipes.finetune.augment import Augmentation
from trainer.recipes.finetune.checkpoint import Checkpoint
from trainer.recipes.finetune.device import precision
from trainer.recipes.finetune.evaluate import MOST_IMAGES, accuracies, by_chunks
from trainer.recipes.finetune.network import Network
from trainer.recipes.finetune.peers import ALONE, Peers
from trainer.recipes.finetune.pixels import Pixels, view_shape
from trainer.recipes.finetune.schedule import Schedule, evaluates
from trainer.recipes.finetune.step import Step
from trainer.settings import Hyperparameters, SettingsError

log = logging.getLogger(__name__)

# AdamW's rate scales with the square root of the batch size (Malladi et al., arXiv:2205.10287).
REFERENCE_BATCH = 128

State = dict[str, Any]


class Fitting:
    """The state of a training: weights, their average, the optimiser and the epochs so far.

    epochs: figures of each; those of validation where it was evaluated.
    """

    def __init__(
        self,
        job: Job,
        network: Network,
        training: Pixels,
        validation: Pixels,
        peers: Peers = ALONE,
        shape: tuple[int, int] | None = None,
    ) -> None:
        """shape: height and width of training's views, in place of those that suit the job."""
        self.job, self.settings, self.peers = job, job.settings, peers
        self.training, self.validation = training, validation
        self.network = network.to(training.device, memory_format=torch.channels_last)
        self.average = deepcopy(self.network).eval()
        self.best: State = {}
        self.epochs: list[dict[str, Any]] = []
        self.checkpoint = Checkpoint(job)
        self._labels = torch.from_numpy(validation.labels).to(validation.device)

        settings = self.settings
        augmentation = Augmentation.suited(settings.augmentation_type, len(training))
        self.schedule = Schedule(
            labels=training.labels,
            batch=whole_batch(settings, len(training), peers),
            epochs=settings.epochs,
            seed=settings.seed,
            shape=shape or view_shape(settings.image_shape),
            augmentation=augmentation,
        )
        self.optimizer = _optimizer(self.network, settings, self.schedule.batch)
        self.step = Step(
            self.network,
            self.average,
            self.optimizer,
            augmentation,
            self.schedule.shape,
            peers,
            self._class_weights() if settings.use_weighted_loss else None,
        )

    def _class_weights(self) -> torch.Tensor:
        """float32 [classes]: reciprocal of a class's frequency, with a mean of 1 over images."""
        counts = np.bincount(self.training.labels, minlength=len(self.job.classes))
        weights = len(self.training) / (len(counts) * counts)
        return torch.from_numpy(weights.astype(np.float32)).to(self.training.device)

    def run_epoch(self) -> None:
        """Train one epoch; evaluate the averaged weights if it is time, and keep the best ones."""
        epoch, started = len(self.epochs), time.monotonic()
        loss, correct = self.train_epoch(epoch)
        entry: dict[str, Any] = {
            "epoch": epoch,
            "train_loss": loss,
            "train_accuracy": correct,
            "train_seconds": time.monotonic() - started,
        }
        if not isfinite(loss):
            raise SettingsError(
                f"The loss became infinite or NaN in epoch {epoch}: a lower learning_rate than "
                f"{self.settings.learning_rate:g} may help."
            )
        self._log("Epoch[%d] Train-accuracy=%.6f", epoch, correct)
        if len(self.validation) and (
            self.settings.early_stopping or evaluates(epoch, self.settings.epochs)
        ):
            entry |= accuracies(self.scores(self.average), self._labels, self.settings.top_k)
            self._log("Epoch[%d] Validation-accuracy=%.6f", epoch, entry["validation_accuracy"])
        entry["seconds"] = time.monotonic() - started
        self.epochs.append(entry)
        if self.best_epoch == epoch:
            self.best = {name: each.clone() for name, each in self.average.state_dict().items()}

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Mean loss and share of correct predictions over an epoch's augmented images."""
        order, inputs = self.schedule.epoch(epoch, self.peers)
        torch.manual_seed(
            int(np.random.default_rng((self.settings.seed, epoch, 1)).integers(2**63))
        )
        self.network.train()
        self.step.begin(inputs)
        for pixels in self.training.batches(order):
            self.step.run(pixels)
        for networks in (self.network, self.average):  # statistics of norms that are not folded
            self.peers.take_over(networks.buffers())
        sums = torch.stack([self.step.loss, self.step.correct])
        self.peers.add(sums)
        loss, correct = (sums / self.schedule.images).tolist()
        return loss, correct

    @torch.inference_mode()
    def scores(self, network: Network) -> torch.Tensor:
        """float32 [N, classes]: logits of the validation images, resized as in serving."""

        def run(x: torch.Tensor) -> torch.Tensor:
            with precision(x.device):
                return network(x)

        most = min(MOST_IMAGES, 2 * self.schedule.batch)
        return by_chunks(run, self.validation, len(self.job.classes), most, self.peers)

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the highest validation accuracy, the last of equal ones.

        Without validation images the last one; None before the first evaluation.
        """
        if not len(self.validation):
            return len(self.epochs) - 1
        evaluated = [each for each in self.epochs if "validation_accuracy" in each]
        best = max(
            evaluated, key=lambda each: (each["validation_accuracy"], each["epoch"]), default=None
        )
        return None if best is None else best["epoch"]

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

    def best_network(self) -> Network:
        """The network with the averaged weights of the best epoch."""
        self.average.load_state_dict(self.best)
        return self.average

    def save(self) -> None:
        """Write a checkpoint if one is due, or the training is finished."""
        if self.peers.leads and (self.finished or self.checkpoint.due(len(self.epochs))):
            self.checkpoint.write(
                {
                    "network": self.network.state_dict(),
                    "average": self.average.state_dict(),
                    "best": self.best,
                    "optimizer": self.optimizer.state_dict(),
                    "epochs": self.epochs,
                }
            )

    def resume(self) -> None:
        """Continue from the checkpoint, where there is one of the same training."""
        state = self.peers.object_of_leader(self.checkpoint.read)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.epochs = state["best"], state["epochs"]
        self._log("resumed after epoch %d", len(self.epochs) - 1)

    def report(self) -> dict[str, Any]:
        """The recipe's part of training.json."""
        schedule = self.schedule
        trained = sum(entry["train_seconds"] for entry in self.epochs)
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "stopped_early": len(self.epochs) < self.settings.epochs,
            "augmentation": asdict(schedule.augmentation),
            "view_shape": schedule.shape,
            "batch": schedule.batch,
            "pictures_per_epoch": schedule.images,
            "pictures_per_second": len(self.epochs) * schedule.images / trained,
            "environment": self._environment(),
        }

    def _environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = {
            "torch": str(torch.__version__),
            "device": "cpu",
            "processes": self.peers.count,
            "threads": torch.get_num_threads(),
            "folded": self.network.folded,
            "cuda_graph": self.step.graph,
        }
        device = self.training.device
        if device.type == "cuda":
            environment |= {
                "device": torch.cuda.get_device_name(device),
                "cuda": torch.version.cuda,
                "peak_device_memory_mb": torch.cuda.max_memory_allocated(device) >> 20,
                "pixels_on_device": self.training.on_device,
            }
        return environment

    def _log(self, message: str, *arguments: object) -> None:
        """Log what all processes have in common once."""
        if self.peers.leads:
            log.info(message, *arguments)


def whole_batch(settings: Hyperparameters, records: int, peers: Peers) -> int:
    """The images of a step, of all processes together: mini_batch_size, or what can be divided.

    Each process gets the same number of images, and both of each pair that may be mixed.
    """
    batch = min(settings.mini_batch_size, records)
    if peers.count > 1:
        batch -= batch % (2 * peers.count)
    if batch < 2:
        raise SettingsError(
            f"Hyperparameter mini_batch_size must be at least {2 * peers.count} for finetune."
            if peers.count == 1 or settings.mini_batch_size < 2 * peers.count
            else f"{records} records are too few for {peers.count} processes."
        )
    return batch


def _optimizer(network: Network, settings: Hyperparameters, batch: int) -> torch.optim.Optimizer:
    rate = settings.learning_rate * (batch / REFERENCE_BATCH) ** 0.5
    device = network.classifier.weight.device
    groups = network.parameter_groups(rate, settings.weight_decay)
    for group in groups:
        group["lr"] = torch.zeros((), device=device)  # of its own, set by each step
    return torch.optim.AdamW(
        groups,
        betas=(settings.beta_1, settings.beta_2),
        eps=settings.eps,
        fused=True,
        capturable=device.type == "cuda",
    )
