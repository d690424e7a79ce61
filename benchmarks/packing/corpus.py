"""The pictures that the benchmark packs: real photographs, or made like them."""

import hashlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
from PIL import Image

# A folder of photographs is repeated until there are about this many; so many are made.
PICTURES = 2400
_CLASSES = 24
# Median 609x406, like the photographs that people search, buy and label.
_SIZES = ((480, 360), (500, 375), (609, 406), (640, 426), (640, 480), (1024, 683), (406, 609))
_QUALITY = 92


@dataclass(frozen=True, slots=True)
class Corpus:
    """Class folders of JPEGs. said: their description; count; bytes: of all of them."""

    folder: Path
    said: str
    count: int
    bytes: int


def make(folder: Path, photographs: Path | None, scale: int | None = None) -> Corpus:
    """The corpus below `folder`, made on first use.

    photographs: class folders to take; None makes pictures up. scale: how many times they are
    repeated, each time cut and mirrored differently, so that no two files or pictures are equal;
    None repeats them to about PICTURES.
    """
    if photographs is None:
        jobs = list(_made(PICTURES * (scale or 1)))
        said = "generated pictures with the spectrum of photographs"
    else:
        originals = sorted(photographs.rglob("*.jpg"))
        times = scale or max(1, round(PICTURES / len(originals)))
        jobs = list(_edited(photographs, originals, times))
        said = f"{len(originals)} photographs of {photographs.name}, "
        said += "as they are" if times == 1 else f"each {times} times, cut and mirrored differently"
    key = hashlib.sha256(repr([said, jobs, _SIZES, _QUALITY]).encode()).hexdigest()[:12]
    place = folder / f"corpus-{key}"
    if not place.is_dir():
        unfinished = folder / f"unfinished-{key}"
        shutil.rmtree(unfinished, ignore_errors=True)
        with ProcessPoolExecutor() as pool:
            for _ in pool.map(_write, repeat(unfinished), jobs, chunksize=16):
                pass
        unfinished.rename(place)
    sizes = [path.stat().st_size for path in place.rglob("*.jpg")]
    return Corpus(place, said, len(sizes), sum(sizes))


@dataclass(frozen=True, slots=True)
class _Job:
    """name: of the picture; number: its seed; original: None where it is made up."""

    name: str
    number: int
    original: Path | None


def _made(count: int) -> Iterator[_Job]:
    for number in range(count):
        yield _Job(f"class {number % _CLASSES:02}/{number:06}.jpg", number, None)


def _edited(root: Path, originals: list[Path], times: int) -> Iterator[_Job]:
    for time in range(times):
        for place, path in enumerate(originals):
            name = path.relative_to(root).with_stem(f"{path.stem}-{time}").as_posix()
            yield _Job(name, time * len(originals) + place if time else 0, path)


def _write(folder: Path, job: _Job) -> None:
    target = folder / job.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if job.original is None:
        _photograph_like(np.random.default_rng(job.number)).save(target, quality=_QUALITY)
    elif not job.number:
        shutil.copyfile(job.original, target)
    else:
        with Image.open(job.original) as picture:
            _edit(picture, np.random.default_rng(job.number)).save(target, quality=_QUALITY)


def _edit(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """At least 85 % of the width and height, half of the time mirrored."""
    left, top, right, bottom = random.uniform(0, 0.075, 4)
    width, height = picture.size
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    cut = picture.convert("RGB").crop(tuple(round(edge) for edge in box))
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else cut


def _photograph_like(random: np.random.Generator) -> Image.Image:
    """Noise whose amplitude falls with the frequency, as in photographs, and a few hard edges."""
    width, height = _SIZES[random.integers(len(_SIZES))]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1
    noise = np.fft.rfft2(random.standard_normal((4, height, width))) / frequency**1.1
    layers = np.fft.irfft2(noise, s=(height, width))
    layers /= layers.std(axis=(1, 2), keepdims=True)
    # The channels of a photograph are mostly one: its brightness.
    pixels = 128 + 45 * layers[:1] + 18 * layers[1:]
    for _ in range(random.integers(3, 12)):
        x, y = random.integers(width), random.integers(height)
        w, h = random.integers(20, width // 2), random.integers(20, height // 2)
        pixels[:, y : y + h, x : x + w] += random.normal(0, 30, (3, 1, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).transpose(1, 2, 0))
