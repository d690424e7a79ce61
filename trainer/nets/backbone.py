"""The backbones that can be fine-tuned: the packaged one, any of timm where it is installed."""

import importlib.util
import io

import onnx
import torch
from torch import nn

from trainer.nets.convert import IR_VERSION, OPSET, build_features, find_weights, read_weights
from trainer.nets.efficientnet_lite0 import Lite0
from trainer.settings import PACKAGED_BACKBONE, SettingsError


class Timm(nn.Module):
    """A net of timm without its classifier: normalised images [N, 3, H, W] to [N, features].

    Pretrained weights come from timm's cache, filled when the container image was built.
    """

    def __init__(self, name: str, pretrained: bool) -> None:
        import timm

        super().__init__()
        try:
            self.net = timm.create_model(name, pretrained=pretrained, num_classes=0)
        except (OSError, RuntimeError) as error:
            raise SettingsError(f"Hyperparameter backbone={name!r}: {error}") from None
        config = self.net.pretrained_cfg
        self.features: int = self.net.num_features
        self.mean = tuple(255 * each for each in config["mean"])
        self.deviation = tuple(255 * each for each in config["std"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def depths(self) -> list[list[nn.Module]]:
        """The net's parts in order from input to features."""
        return [[part] for part in self.net.children()]


Backbone = Lite0 | Timm


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


def load_backbone(name: str, pretrained: bool) -> Backbone:
    """The backbone of this name. Raises SettingsError where there is none."""
    if name != PACKAGED_BACKBONE:
        if importlib.util.find_spec("timm") is None:
            raise SettingsError(
                f"Hyperparameter backbone={name!r} needs timm, which this image was built without: "
                f"leave it out for {PACKAGED_BACKBONE}."
            )
        return Timm(name, pretrained)
    net = Lite0()
    if pretrained:
        net.load_packaged(read_weights(find_weights()))
    return net


def export(backbone: Backbone, height: int, width: int) -> onnx.ModelProto:
    """`image` uint8 [N, height, width, 3] to `features` float32 [N, features], batch norm folded.

    The packaged net is written node by node, as for recipe `probe`; others are exported by tracing.
    """
    if isinstance(backbone, Lite0):
        return build_features(backbone.exported())
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
    return model
