"""MATLAB's files, read as SciPy reads them, and refused where they are damaged or too large."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from batch_prep.sources import matfile
from batch_prep.sources.matfile import MatError, read_mat

# Files that MATLAB itself wrote, on three kinds of machine.
WRITTEN_BY_MATLAB = sorted(
    path
    for path in (Path(scipy.io.__file__).parent / "matlab" / "tests" / "data").glob("test*.mat")
    if path.stem.split("_")[0]
    in ("testcell", "testcellnest", "teststructarr", "testmatrix", "teststring", "testunicode")
    and "_4.2c_" not in path.name
)


def plain(value: Any) -> Any:
    """What SciPy reads, as `read_mat` gives it."""
    if value.dtype.names:
        return tuple(
            {name: plain(one[name]) for name in value.dtype.names} for one in value.ravel("F")
        )
    if value.dtype == object:
        return tuple(plain(one) for one in value.ravel("F"))
    if value.dtype.kind == "U":
        return str(value[0]) if value.size else ""
    return tuple(value.ravel("F").tolist())


def saved(*, compressed: bool = True, **variables: Any) -> bytes:
    data = BytesIO()
    scipy.io.savemat(data, variables, do_compression=compressed)
    return data.getvalue()


def test_files_by_matlab_come_with_scipy() -> None:
    assert len(WRITTEN_BY_MATLAB) >= 20


@pytest.mark.parametrize("path", WRITTEN_BY_MATLAB, ids=lambda path: path.stem)
def test_what_matlab_wrote_is_read_as_scipy_reads_it(path: Path) -> None:
    expected = {
        name: plain(value)
        for name, value in scipy.io.loadmat(path).items()
        if not name.startswith("__")
    }
    assert read_mat(path.read_bytes(), list(expected)) == expected


def test_only_what_is_wanted_is_read() -> None:
    data = saved(a=np.array([1, 2]), b="text", c=np.array([["two"], ["row"]]))
    assert read_mat(data, ["a", "b", "z"]) == {"a": (1, 2), "b": "text"}


def test_a_file_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matfile, "_MOST_BYTES", 10_000)
    with pytest.raises(MatError, match="unpacks to more than 10,000 bytes"):
        read_mat(saved(a=np.zeros(100_000)), ["a"])
    with pytest.raises(MatError, match="unpacks to more than 10,000 bytes"):
        read_mat(saved(a=np.zeros(700), b=np.zeros(700)), ["a"])


def header() -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def element(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)


def matrix(kind: int, shape: tuple[int, ...], *rest: bytes, name: bytes = b"a") -> bytes:
    flags = element(6, struct.pack("<II", kind, 0))
    sizes = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + sizes + element(1, name) + b"".join(rest))


def nested(depth: int) -> bytes:
    inner = matrix(1, (0, 0), name=b"")
    for _ in range(depth):
        inner = matrix(1, (1, 1), inner, name=b"")
    return matrix(1, (1, 1), inner)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (matrix(1, (2**31 - 1, 2**31 - 1)), "larger than the file"),
        (matrix(2, (2**31 - 1, 1), element(5, b"\x01\0\0\0"), element(1, b"f")), "larger than"),
        (matrix(1, (-1, -1)), "cut off"),
        (matrix(1, (1,) * 100), "more than 32 dimensions"),
        (matrix(2, (1, 1), element(5, bytes(4)), element(1, b"f")), "field names have no length"),
        (matrix(6, (1, 1), element(99, bytes(8))), "type 99 where numbers should be"),
        (matrix(4, (1, 1), element(9, bytes(8))), "type 9 where a text should be"),
        (matrix(4, (1, 2), element(16, b"\xff\xff")), "cannot be decoded"),
        (matrix(4, (2, 1), element(16, b"ab")), "a text of several rows"),
        (matrix(5, (1, 1)), "class 5, which is not read"),
        (nested(50), "nested too deeply"),
        (element(14, element(9, struct.pack("<d", float("inf")))), "no whole numbers"),
        (struct.pack("<II", 14, 2**31), "cut off"),
        (struct.pack("<HHI", 14, 9, 0), "a small element is too long"),
        (element(15, b"not packed"), "it is damaged"),
        (element(15, zlib.compress(bytes(1000))[:-6]), "cut off"),
        (b"\0\0", "cut off"),
    ],
)
def test_a_damaged_file_is_refused_with_a_reason(body: bytes, reason: str) -> None:
    with pytest.raises(MatError, match=reason):
        read_mat(header() + body, ["a"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no MATLAB file of version 5 to 7"),
        (b"x" * 200, "no MATLAB file of version 5 to 7"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512), "save it with -v7"),
    ],
)
def test_a_file_of_another_kind_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(MatError, match=reason):
        read_mat(data, ["a"])


GOOD = saved(
    compressed=False,
    a=np.array([[("x.jpg", 1), ("y.jpg", 2)]], dtype=[("fname", object), ("class", object)]),
)


@given(at=st.integers(128, len(GOOD) - 1), to=st.binary(min_size=1, max_size=8))
def test_any_damage_gives_values_or_a_reason(at: int, to: bytes) -> None:
    damaged = GOOD[:at] + to + GOOD[at + len(to) :]
    try:
        values = read_mat(damaged, ["a"])
    except MatError:
        return
    assert values.keys() <= {"a"}


def array_of(kind: int, shape: tuple[int, int], name: bytes, content: bytes) -> bytes:
    flags = element(6, struct.pack("<II", kind, 0))
    sizes = element(5, struct.pack("<ii", *shape))
    return element(14, flags + sizes + element(1, name) + content)


@pytest.mark.parametrize(
    ("variable", "why"),
    [
        (array_of(9, (1, 5_000_000), b"x", element(2, bytes(5_000_000))), "numbers"),
        (element(1, b"") * 2_000_001, "elements"),
    ],
    ids=["numbers", "elements"],
)
def test_a_small_file_of_many_values_is_refused(variable: bytes, why: str) -> None:
    """Packed they are kilobytes, as objects hundreds of megabytes."""
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    with pytest.raises(MatError, match=f"more than .* {why}"):
        read_mat(head + variable, ["x"])
    if variable[:4] == struct.pack("<I", 14):
        packed = zlib.compress(variable)
        assert len(packed) < 100_000
        with pytest.raises(MatError, match=f"more than .* {why}"):
            read_mat(head + struct.pack("<II", 15, len(packed)) + packed, ["x"])


def test_cells_count_as_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matfile, "_MOST_ELEMENTS", 1000)

    def cells(count: int) -> bytes:
        return header() + array_of(1, (1, count), b"x", element(14, b"") * count)

    assert len(read_mat(cells(990), ["x"])["x"]) == 990
    with pytest.raises(MatError, match="more than 1,000 elements"):
        read_mat(cells(1000), ["x"])
