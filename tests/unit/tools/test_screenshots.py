"""The READMEs show the screenshots that `make screenshots` has made, and those are small."""

from pathlib import Path

import pytest
from PIL import Image

from tools.screenshots import KEPT, MOST_BYTES, PLACE


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_a_readme_shows_each(repo_root: Path, page: str, name: str) -> None:
    image = PLACE / f"{name}.webp"
    assert f'"{image.relative_to(repo_root)}"' in (repo_root / page).read_text("utf-8")
    assert image.stat().st_size < MOST_BYTES
    with Image.open(image) as opened:
        assert opened.format == "WEBP"
