"""Baseline of recipe probe: MXNet's ResNet-18 from scratch, for a given time on the CPU.

    python mxnet_resnet.py BASE CLASSES SECONDS OUT.json    where there is MXNet

MXNet's pretrained weights are only to be had from its model zoo on the network, so this starts from
chance, as the built-in algorithm does with use_pretrained_model=0.
"""

import json
import sys
import time
from pathlib import Path

import mxnet as mx
from mxnet import autograd, gluon

SIDE, BATCH, RATE = 112, 32, 0.05


def records(path: str, training: bool) -> mx.io.DataIter:
    """Pictures of a record file, cut as the built-in algorithm cuts them."""
    return mx.io.ImageRecordIter(
        path_imgrec=path,
        data_shape=(3, SIDE, SIDE),
        batch_size=BATCH,
        resize=SIDE,
        rand_crop=training,
        rand_mirror=training,
        shuffle=training,
        mean_r=127.0,
        mean_g=127.0,
        mean_b=127.0,
        scale=1 / 64,
        preprocess_threads=2,
        verbose=False,
    )


def here(array: mx.nd.NDArray) -> mx.nd.NDArray:
    """The iterator's arrays lie in memory that is set aside for GPUs."""
    return array.as_in_context(mx.cpu())


def main(base: str, classes: str, seconds: str, out: str) -> None:
    """Train until the time is up, then count what it gets right."""
    mx.random.seed(0)
    net = gluon.model_zoo.vision.resnet18_v1(classes=int(classes))
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    net.hybridize()
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    options = {"learning_rate": RATE, "momentum": 0.9, "wd": 1e-4}
    trainer = gluon.Trainer(net.collect_params(), "sgd", options)
    train = records(f"{base}/input/data/train/train.rec", True)
    begun, seen = time.monotonic(), 0
    while time.monotonic() - begun < float(seconds):
        try:
            batch = train.next()
        except StopIteration:
            train.reset()
            continue
        with autograd.record():
            value = loss(net(here(batch.data[0])), here(batch.label[0]))
        value.backward()
        trainer.step(BATCH)
        value.wait_to_read()
        seen += BATCH
    took = time.monotonic() - begun
    right = count = 0
    for batch in records(f"{base}/input/data/validation/validation.rec", False):
        kept = BATCH - batch.pad
        answers = net(here(batch.data[0])).argmax(axis=1)[:kept]
        right += int((answers == here(batch.label[0])[:kept]).sum().asscalar())
        count += kept
    result = {"top1": right / count, "pictures": seen, "pictures_per_second": seen / took}
    Path(out).write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
