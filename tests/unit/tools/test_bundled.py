"""What the locked wheels bundle is read from the wheels themselves, and none is passed over."""

import importlib.metadata
import re
from pathlib import Path

import pytest
from PIL import features

from tools import bundled
from tools.bundled import LOCKS, locked


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, set[str]] | None]:
    return {name: bundled.bundled(name) for name in locked()}


def test_pillows_decoders_are_named_with_their_versions(
    found: dict[str, dict[str, set[str]] | None],
) -> None:
    pillow = found["pillow"]
    assert pillow
    for library in ("libjpeg_turbo", "webp", "libtiff", "freetype2", "littlecms2", "zlib_ng"):
        assert features.version(library) in pillow[library]
    # libpng is in no feature; its file beside the package names it.
    assert any(name.startswith("libpng") for name in pillow)


def test_every_shared_library_beside_a_package_is_named(
    found: dict[str, dict[str, set[str]] | None],
) -> None:
    seen = 0
    for name, libraries in found.items():
        for file in importlib.metadata.files(name) or ():
            if file.parent.name.endswith(".libs"):
                seen += 1
                assert libraries
                assert any(file.name.startswith(library) for library in libraries), file
    assert seen > 15


def test_what_is_linked_in_is_found_by_what_it_leaves(
    found: dict[str, dict[str, set[str]] | None],
) -> None:
    simplejpeg, obstore = found["simplejpeg"], found["obstore"]
    assert simplejpeg
    assert re.fullmatch(r"3\.\d+\.\d+", simplejpeg["libjpeg-turbo"].pop())
    assert obstore
    assert any(library.startswith("aws-lc") for library in obstore)


def test_every_banner_is_found_somewhere(
    found: dict[str, dict[str, set[str]] | None],
) -> None:
    """Else it is of a library that nothing bundles any more, or that words it anew."""
    named = {library for libraries in found.values() for library in libraries or ()}
    assert bundled.BANNERS.keys() <= named


def test_all_that_is_locked_for_the_cloud_is_looked_at(repo_root: Path) -> None:
    for lock in LOCKS:
        assert (repo_root / lock).is_file()
    assert {"pillow", "numpy", "onnxruntime", "obstore", "boto3"} <= locked().keys()


def test_the_workflow_pins_actions_by_commit(repo_root: Path) -> None:
    """A tag can be moved to another commit; https://docs.github.com, "Security hardening"."""
    uses = [
        line.split("uses:", 1)[1].strip()
        for path in (repo_root / ".github/workflows").glob("*.yml")
        for line in path.read_text().splitlines()
        if "uses:" in line
    ]
    assert uses
    for one in uses:
        assert re.fullmatch(r"[\w-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one), one
