"""A run of the recipe `finetune`, from top to bottom.

The recipe follows "How to train your ViT" and "ResNet strikes back" (Steiner et al., 2021,
arXiv:2106.10270; Wightman et al., 2021, arXiv:2110.00476) as far as a few thousand images allow.
"""

import logging

import numpy as np
import torch

from droplens.inference.cores import cores
from trainer.cluster import Cluster
from trainer.data.decode import decode
from trainer.job import Job, Outcome
from trainer.nets.assemble import assemble
from trainer.nets.backbone import export, load_backbone
from trainer.recipes.finetune.device import find_device, prepare_device
from trainer.recipes.finetune.earlier import read_earlier, write_weights
from trainer.recipes.finetune.fitting import Fitting
from trainer.recipes.finetune.network import Network
from trainer.recipes.finetune.peers import ALONE, Peers
from trainer.recipes.finetune.pixels import Pixels, with_margin
from trainer.recipes.finetune.processes import train_together
from trainer.recipes.novelty import NoveltyFit, fit_novelty
from trainer.recipes.ridge_head import Head
from trainer.recipes.temperature import Temperature, fit_temperature

log = logging.getLogger(__name__)


def finetune(job: Job) -> Outcome | None:
    """Train on all GPUs of all instances of the job; None on an instance that does not lead."""
    cluster = Cluster.read(job.folders.resources)
    per_host = max(1, torch.cuda.device_count())
    if per_host * len(cluster.hosts) > 1:
        return train_together(job, cluster, per_host, fit)
    device = find_device(job.settings.device)
    prepare_device(cores())
    with job.timings.step("decode"):
        decoded = decode(job.training, with_margin(job.resize))
        training = Pixels.of(decoded, job.training.labels, device)
        decoded = decode(job.validation, job.resize)
        validation = Pixels.of(decoded, job.validation.labels, device)
    return fit(job, training, validation)


def fit(job: Job, training: Pixels, validation: Pixels, peers: Peers = ALONE) -> Outcome:
    """The run from decoded images on: network, epochs, and the best epoch's weights as ONNX.

    Every process among `peers` calls this, and has the same outcome.
    """
    with job.timings.step("network"):
        network = start(job, training, peers)
        fitting = Fitting(job, network, training, validation, peers)
        fitting.resume()
    with job.timings.step("epochs"):
        while not fitting.finished:
            fitting.run_epoch()
            fitting.save()
    with job.timings.step("export"):
        result = outcome(fitting)
        if peers.leads:
            write_weights(job, fitting.best_network())
    return result


def start(job: Job, training: Pixels, peers: Peers) -> Network:
    """A network with pretrained weights, or with those of the model in channel `model`."""
    settings = job.settings
    torch.manual_seed(settings.seed)
    saved = peers.object_of_leader(lambda: read_earlier(job))
    pretrained = settings.use_pretrained_model and saved is None
    shape = settings.image_shape
    backbone = load_backbone(settings.backbone, pretrained, shape, job.weights)
    network = Network(backbone, len(job.classes))
    if saved is not None:
        rows = {name: row for row, name in enumerate(saved["classes"])}
        known = [rows.get(name) for name in job.classes]
        network.take_classes(Network.restored(saved, shape), known)
        log.info(
            "training further: %d of %d classes were known",
            sum(row is not None for row in known),
            len(known),
        )
    # Without pretrained statistics, batch norm is what makes training possible.
    if (pretrained or saved is not None) and not network.folded:
        network.fold(shape)
    network.to(training.device)
    if pretrained and peers.leads:
        network.fit_classifier(training, shape, settings.seed)
    peers.take_over(network.state_dict().values())
    return network


def outcome(fitting: Fitting) -> Outcome:
    """The best epoch's network as an ONNX graph, with accuracies and the report."""
    job, network, best = fitting.job, fitting.best_network(), fitting.best_epoch
    assert best is not None
    accuracies = {"train": fitting.epochs[best]["train_accuracy"]}
    temperature, predictions = Temperature.constant(1), None
    if len(fitting.validation):
        scores, labels = fitting.scores(network).cpu().numpy(), job.validation.labels
        predictions = scores.argmax(1)
        accuracies["validation"] = float((predictions == labels).mean())
        temperature = Temperature.constant(fit_temperature(scores, labels))
    weight, bias = (
        np.ascontiguousarray(each.detach().cpu().numpy())
        for each in (network.classifier.weight.T, network.classifier.bias)
    )
    shape = job.settings.image_shape
    # Without left-out novelties: the network has learnt every training image, which therefore looks
    # less novel to it than a new one, even where the covariance leaves it out.
    novelty = fit_novelty(network.features_of(fitting.training, shape, fitting.peers)).novelty
    features = export(network.backbone, job.resize.height, job.resize.width)
    report = {
        **fitting.report(),
        "calibration": temperature.report(len(job.validation)),
        "novelty": NoveltyFit(novelty, None).report(),
    }
    head = Head(weight, bias, temperature)
    model = assemble(features, head, novelty, job.resize)
    return Outcome(model, accuracies, report, predictions)
