"""Lists the libraries that the locked wheels bundle, with their versions: a part of make audit

Locks and advisories name packages only, not the libwebp in a wheel. The libraries are found in the
installed wheels: by their bill of materials (PEP 770), by the shared libraries beside the package,
by Pillow's own list, and by version strings in binaries. osv.dev and a library's release notes say
whether a version has known vulnerabilities.
"""

import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What runs in the cloud, on untrusted bytes.
LOCKS = (
    "layers/droplens/requirements.txt",
    "batch_prep/requirements.txt",
    "trainer/requirements.txt",
)
# Version strings of libraries in binaries.
BANNERS = {
    "libjpeg-turbo": rb"libjpeg-turbo version (\d+\.\d+(?:\.\d+)?)",
    "libpng": rb"libpng version (\d+\.\d+\.\d+)",
    "libtiff": rb"LIBTIFF, Version (\d+\.\d+\.\d+)",
    "zlib": rb"(?:deflate|inflate) (\d+\.\d+(?:\.\d+)*) Copyright",
    "OpenBLAS": rb"OpenBLAS (\d+\.\d+\.\d+)",
}
# Binaries of Rust have the paths of the crates' sources.
_CRATE = re.compile(rb"(?:/|\\)([a-z][a-z0-9_-]*?)-(\d+\.\d+\.\d+)(?:/|\\)src(?:/|\\)")
CRATE = " (Rust)"
_SHARED = re.compile(r"(?P<name>.+?)(?:-[0-9a-f]{8})*\.so(?:\.(?P<version>[\d.]+))?")
_NATIVE = (".so", ".pyd", ".dylib")


def locked() -> dict[str, str]:
    """Name and version of every package of LOCKS that is installed here at that version."""
    found = {}
    for lock in LOCKS:
        for line in (ROOT / lock).read_text("utf-8").splitlines():
            if match := re.match(r"([A-Za-z0-9._-]+)(?:\[.*?\])?==([^ ;\\]+)", line):
                name, version = match[1].lower(), match[2]
                try:
                    if importlib.metadata.version(name) == version:
                        found[name] = version
                except importlib.metadata.PackageNotFoundError:
                    continue
    return dict(sorted(found.items()))


def bundled(name: str) -> dict[str, set[str]] | None:
    """The libraries in the installed package `name`, each with its versions ("" for an
    unknown one); None where it has no native code."""
    files = [Path(str(file.locate())) for file in importlib.metadata.files(name) or ()]
    native = [file for file in files if _is_native(file) and file.is_file()]
    if not native:
        return None
    found: dict[str, set[str]] = {}
    for library, version in _read(name, files, native):
        found.setdefault(library, set()).add(version)
    for versions in found.values():
        if len(versions) > 1:
            versions.discard("")
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _is_native(file: Path) -> bool:
    return file.suffix in _NATIVE or ".so." in file.name


def _read(name: str, files: list[Path], native: list[Path]) -> Iterator[tuple[str, str]]:
    bills = [file for file in files if file.parent.name == "sboms" and file.suffix == ".json"]
    for bill in bills:
        for component in json.loads(bill.read_text("utf-8")).get("components", ()):
            crate = CRATE if component.get("purl", "").startswith("pkg:cargo/") else ""
            yield component["name"] + crate, component.get("version", "")
    if name == "pillow":
        yield from _pillow()
    for file in native:
        if file.parent.name.endswith(".libs") and (match := _SHARED.fullmatch(file.name)):
            yield match["name"], (match["version"] and f"ABI {match['version']}") or ""
        content = file.read_bytes()
        for library, banner in BANNERS.items():
            for version in set(re.findall(banner, content)):
                yield library, version.decode()
        for crate, version in set(_CRATE.findall(content)) if not bills else ():
            yield crate.decode() + CRATE, version.decode()


def _pillow() -> Iterator[tuple[str, str]]:
    from PIL import features

    for feature in features.get_supported():
        if feature not in ("pil", "tkinter") and (version := features.version(feature)):
            yield feature, str(version)


def _listed(libraries: dict[str, set[str]]) -> str:
    return ", ".join(
        " ".join([library.removesuffix(CRATE), *sorted(versions)]).strip()
        for library, versions in libraries.items()
    )


def main() -> int:
    """Print a paragraph for each package; returns the exit code."""
    for name, version in locked().items():
        libraries = bundled(name)
        if libraries is None:
            continue
        # A crate -sys contains the C library that it is named for.
        crates = {
            library: versions
            for library, versions in libraries.items()
            if library.endswith(CRATE) and not library.endswith(f"-sys{CRATE}")
        }
        others = {key: value for key, value in libraries.items() if key not in crates}
        print(f"{name} {version} bundles:")
        print(f"  {_listed(others) or 'native code; of C libraries nothing can be read'}")
        if crates:
            print(f"  {len(crates)} crates: {_listed(crates)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
