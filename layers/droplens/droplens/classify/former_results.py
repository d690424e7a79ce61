"""Results of the default classifier for images in another classifier's folder.

In earlier versions input/birds/a.jpg, without a classifier "birds", was classified by the default
one, for example "cars", with its result at results/cars/birds/a.jpg.json. Once "birds" classifies
the image, that result is wrong and must be removed.
"""

import json
from collections.abc import Iterator

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing

# A larger object is not a result: its candidates are at most 10,000 class names of 255 bytes.
MAX_RESULT_BYTES = 4 * 2**20


def former_results(bucket: Bucket, image: str, default: str) -> Iterator[tuple[str, str]]:
    """Key and ETag of each result of the classifier `default` for the key `image`.

    Only objects whose content names this image and this classifier: input/cars/birds/a.jpg has its
    result at the same key. For an image in the folder of `default` there are none.
    """
    folder = layout.first_folder(image)
    if folder is None or folder == default:
        return
    for place in (
        layout.result_key(image, default),
        layout.other_result_key(image, default),
    ):
        try:
            body, info = bucket.read_at_most(place, MAX_RESULT_BYTES)
        except ObjectMissing:
            continue
        if body is not None and _is_result_of(body, image, default):
            yield place, info.etag


def _is_result_of(body: bytes, image: str, classifier: str) -> bool:
    try:
        found = json.loads(body)
        return bool(found["image"]["key"] == image and found["classifier"] == classifier)
    except (ValueError, TypeError, LookupError, RecursionError):
        return False
