"""What the network sees of a picture: all of it, at the network's shape."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from droplens.imaging import prepare
from trainer.data.preprocess import Resize


def test_squashing_keeps_the_whole_picture_at_the_networks_shape() -> None:
    left_to_right = Image.new("RGB", (400, 100), "red")
    left_to_right.paste("blue", (200, 0, 400, 100))
    stored = BytesIO()
    left_to_right.save(stored, "PNG")
    pixels = Resize(width=64, height=48).pixels(stored.getvalue())
    assert pixels.shape == (48, 64, 3)
    assert pixels.dtype == np.uint8
    assert pixels[20, 2].tolist() == [255, 0, 0]
    assert pixels[20, 61].tolist() == [0, 0, 255]


@pytest.mark.parametrize("size", [(581, 329), (329, 581), (96, 96), (40, 30)])
def test_squashing_is_pillows_bilinear_resize_but_for_rounding(size: tuple[int, int]) -> None:
    grain = Image.merge("RGB", [Image.effect_noise(size, sigma) for sigma in (20, 60, 120)])
    stored = BytesIO()
    grain.save(stored, "PNG")
    pixels = Resize(width=96, height=64).pixels(stored.getvalue())
    expected = np.asarray(grain.resize((96, 64), Image.Resampling.BILINEAR), np.int16)
    assert np.abs(pixels - expected).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(96, 32), (32, 96)])
def test_a_large_jpeg_is_decoded_in_enough_pixels_for_the_longer_side(
    width: int, height: int
) -> None:
    stored = BytesIO()
    grain = Image.merge("RGB", [Image.effect_noise((800, 800), 90) for _ in range(3)])
    grain.save(stored, "JPEG", quality=95)
    enough, _ = prepare.decode(stored.getvalue(), shorter_side=96)
    expected = np.asarray(enough.resize((width, height), Image.Resampling.BILINEAR), np.int16)
    pixels = Resize(width=width, height=height).pixels(stored.getvalue())
    assert np.abs(pixels - expected).max() <= 1


def test_width_and_height_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Resize(64, 48)  # type: ignore[call-arg]


def test_preprocessing_is_kept_beside_the_model_and_read_again(tmp_path: Path) -> None:
    resize = Resize(width=64, height=48)
    resize.write(tmp_path)
    assert json.loads((tmp_path / "preprocessing.json").read_text("utf-8")) == {
        "width": 64,
        "height": 48,
        "resize": "squash",
        "filter": "bilinear",
        "input": "uint8 NHWC RGB",
    }
    assert Resize.read(tmp_path) == resize


@pytest.mark.parametrize(
    "other", [{"resize": "crop"}, {"filter": "nearest"}, {"input": "float32 NCHW RGB"}]
)
def test_preprocessing_of_another_kind_is_refused(other: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="unknown settings"):
        Resize(width=64, height=64, **other)
