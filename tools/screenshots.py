"""Keeps the tests' screenshots for the README, small: tools/screenshots.py FOLDER"""

import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "docs" / "images"
# The README shows the one that suits the reader's screen.
KEPT = ("console-overview-light", "console-overview-dark")
QUALITY = 80
MOST_BYTES = 200_000


def main() -> int:
    """Write each as WebP below docs/images/; returns 1 for one that is missing or too large."""
    folder = Path(sys.argv[1])
    PLACE.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        source, target = folder / f"{name}.png", PLACE / f"{name}.webp"
        if not source.is_file():
            print(f"{source} is missing: its test was skipped or failed", file=sys.stderr)
            return 1
        with Image.open(source) as image:
            image.convert("RGB").save(target, "WEBP", quality=QUALITY, method=6)
        size = target.stat().st_size
        print(f"{target.relative_to(ROOT)}: {size:,} bytes")
        if size > MOST_BYTES:
            print(f"more than {MOST_BYTES:,} bytes", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
