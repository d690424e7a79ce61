"""The request body of an endpoint call, within the endpoint's size limit.

Only very long images at a large ImageSize exceed it: 10240 x 512 pixels of a detailed texture have
about 6 MB at the JPEG quality of records, 95.
"""

from io import BytesIO

from PIL import Image

from droplens.imaging.prepare import ImageError

# A serverless endpoint takes 4 MB in a request (SageMaker Developer Guide, "Invoke a serverless
# endpoint"), one on an instance 6 MiB (botocore's model of InvokeEndpoint): the smaller of both.
MAX_BODY = 4_000_000
# Each about two thirds of the bytes of the one before.
_QUALITIES = (85, 70, 50, 30)


def fitting(jpeg: bytes, most: int = MAX_BODY) -> bytes:
    """The JPEG unchanged if it has at most `most` bytes, else encoded at a lower quality.

    Raises ImageError where it is too large even at the lowest quality.
    """
    if len(jpeg) <= most:
        return jpeg
    with Image.open(BytesIO(jpeg), formats=["JPEG"]) as image:
        size = image.size
        for quality in _QUALITIES:
            smaller = BytesIO()
            image.save(smaller, "JPEG", quality=quality, subsampling="4:2:0")
            if smaller.tell() <= most:
                return smaller.getvalue()
    raise ImageError(
        "image.too_large",
        f"resized for the model it is {size[0]} x {size[1]} pixels, which no JPEG of {most} bytes "
        "holds: that many an endpoint takes in one request",
    )
