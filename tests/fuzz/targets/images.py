"""Decoders and what stands before them: a picture is prepared, or refused with a code."""

from droplens.imaging.limits import PictureError
from droplens.imaging.structure import structure_of
from droplens.pictures import Preprocessing, prepare
from tests import zoo
from tests.fuzz.engine import Target

_AS_AN_ENDPOINT = Preprocessing(shorter_side=64)


def _prepare(data: bytes) -> None:
    """Where classify_image and the packers begin: what is not plain is decoded in the sandbox."""
    prepare(data, _AS_AN_ENDPOINT)


TARGETS = [
    Target("image", zoo.sound, _prepare, (PictureError,)),
    Target("image-structure", zoo.sound, structure_of, (PictureError,)),
]
