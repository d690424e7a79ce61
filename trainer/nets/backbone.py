"""The backbones that can be fine-tuned: the packaged ones, any of timm where it is installed."""

import importlib.util
import io
from pathlib import Path

import onnx
import torch
from torch import nn

from trainer.nets.convert import IR_VERSION, OPSET, build_features, read_weights
from trainer.nets.efficientnet_lite import Lite
from trainer.nets.pretrained import WeightsError, overlay, timm_weights
from trainer.nets.specification import PACKAGED
from trainer.settings import SettingsError


class Timm(nn.Module):
    """A net of timm without its classifier: normalised images [N, 3, H, W] to [N, features].

    weights: the file with its pretrained weights; None: random ones. shape: height and width of
    the images, for nets that are made for one size. Raises SettingsError for an unknown name.
    """

    def __init__(self, name: str, weights: Path | None, shape: tuple[int, int]) -> None:
        import timm

        super().__init__()
        try:
            config = timm.get_pretrained_cfg(name)
            self.net = timm.create_model(
                name,
                pretrained=weights is not None,
                pretrained_cfg_overlay=None if weights is None else overlay(weights),
                num_classes=0,
                **({"img_size": shape} if config and config.fixed_input_size else {}),
            )
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise SettingsError(f"Hyperparameter backbone={name!r}: {error}") from None
        config = self.net.pretrained_cfg
        self.features = _features(name, self.net, shape)
        self.mean = tuple(255 * each for each in config["mean"])
        self.deviation = tuple(255 * each for each in config["std"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def depths(self) -> list[list[nn.Module]]:
        """The net's parts in order from input to features, with each block of a stage."""
        parts: list[list[nn.Module]] = []
        for part in self.net.children():
            stage = isinstance(part, nn.Sequential | nn.ModuleList)
            parts += [[block] for block in part] if stage else [[part]]
        return parts


@torch.inference_mode()
def _features(name: str, net: nn.Module, shape: tuple[int, int]) -> int:
    """How many there are, counted: timm's num_features is of the last stage, not of the head."""
    try:
        found = net.eval()(torch.zeros(1, 3, *shape))
    except (AssertionError, RuntimeError) as error:
        height, width = shape
        raise SettingsError(
            f"Hyperparameter backbone={name!r} cannot take images of {height} x {width} pixels: "
            f"{error}"
        ) from None
    if found.ndim != 2:
        raise SettingsError(f"Hyperparameter backbone={name!r} has no features of a whole image.")
    return int(found.shape[1])


Backbone = Lite | Timm


class _FromPixels(nn.Module):
    """From uint8 [N, H, W, 3], as serving sends it."""

    def __init__(self, backbone: Timm) -> None:
        super().__init__()
        self.backbone = backbone
        for name, value in (("mean", backbone.mean), ("deviation", backbone.deviation)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.permute(0, 3, 1, 2).float()
        return self.backbone((x - self.mean) / self.deviation)


def load_backbone(
    name: str, pretrained: bool, shape: tuple[int, int], folder: Path | None = None
) -> Backbone:
    """The backbone of this name. Raises SettingsError where there is none.

    pretrained: false for random weights. shape: height and width of the images. folder: of the
    container image's weights, needed for pretrained ones of timm.
    """
    specification = PACKAGED.get(name)
    if specification is None:
        if importlib.util.find_spec("timm") is None:
            raise SettingsError(
                f"Hyperparameter backbone={name!r} needs timm, which this image was built without: "
                f"leave it out, or take one of {', '.join(PACKAGED)}."
            )
        try:
            weights = timm_weights(name, folder or Path()) if pretrained else None
        except WeightsError as error:
            raise SettingsError(f"Hyperparameter backbone={name!r}: {error}.") from None
        return Timm(name, weights, shape)
    net = Lite(specification)
    if pretrained:
        net.load_packaged(read_weights(specification))
    return net


def export(backbone: Backbone, height: int, width: int) -> onnx.ModelProto:
    """`image` uint8 [N, height, width, 3] to `features` float32 [N, features], batch norm folded.

    A packaged net is written node by node, as for recipe `probe`; others are exported by tracing.
    """
    if isinstance(backbone, Lite):
        return build_features(backbone.specification, backbone.exported())
    written = io.BytesIO()
    torch.onnx.export(
        _FromPixels(backbone).cpu().eval(),
        (torch.zeros(2, height, width, 3, dtype=torch.uint8),),
        written,
        input_names=["image"],
        output_names=["features"],
        dynamic_axes={"image": {0: "N"}, "features": {0: "N"}},
        opset_version=OPSET,
        dynamo=False,  # the dynamo exporter needs two more packages
    )
    model = onnx.load_from_string(written.getvalue())
    model.ir_version = IR_VERSION
    _remove_identities(model.graph)
    return model


def _remove_identities(graph: onnx.GraphProto) -> None:
    """The exporter writes one of equal constants once, and an Identity for each of the others.

    Quantisation looks for a convolution's weight and bias among the constants.
    """
    same = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    kept = [node for node in graph.node if node.op_type != "Identity"]
    outputs = {each.name for each in graph.output}
    if outputs & same.keys():
        return
    for node in kept:
        for position, name in enumerate(node.input):
            while name in same:
                name = same[name]
            node.input[position] = name
    del graph.node[:]
    graph.node.extend(kept)
