"""Pictures are decoded as many at once as there is memory for, whatever the container is."""

import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from droplens.imaging import prepare
from trainer.serving.memory import DecodingMemory, limit, needed, used

MIB = 2**20


def machine(
    root: Path,
    total_kib: int,
    resident_kib: int = 0,
    *,
    v1: str | None = None,
    v2: str | None = None,
) -> Path:
    """A file system that says what a machine's does. v1, v2: limits of the control groups."""
    files = {
        "proc/meminfo": f"MemTotal:       {total_kib} kB\nMemFree:         1 kB\n",
        "proc/self/status": f"Name:\tpython\nVmRSS:\t  {resident_kib} kB\n",
    }
    if v2 is not None:
        files["sys/fs/cgroup/memory.max"] = v2
    if v1 is not None:
        files["sys/fs/cgroup/memory/memory.limit_in_bytes"] = v1
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("v1", "v2", "expected"),
    [
        (None, None, 4096 * MIB),
        (None, "max\n", 4096 * MIB),
        (None, f"{1024 * MIB}\n", 1024 * MIB),
        (f"{1024 * MIB}\n", None, 1024 * MIB),
        ("9223372036854771712\n", None, 4096 * MIB),
    ],
)
def test_the_least_of_what_container_and_machine_give_is_the_limit(
    tmp_path: Path, v1: str | None, v2: str | None, expected: int
) -> None:
    assert limit(machine(tmp_path, 4096 * 1024, v1=v1, v2=v2)) == expected


def test_where_nothing_says_how_much_there_is_nothing_is_limited(tmp_path: Path) -> None:
    assert limit(tmp_path) is None
    with DecodingMemory(224, tmp_path).admitted(b"anything"):
        pass


def test_what_is_in_use_is_not_for_pictures(tmp_path: Path) -> None:
    root = machine(tmp_path, 4096 * 1024, 200 * 1024, v2=str(1024 * MIB))
    assert used(root) == 200 * MIB
    assert DecodingMemory(224, root).free == (1024 - 200 - 128) * MIB


def encoded(size: tuple[int, int], form: str, mode: str = "RGB", **options: object) -> bytes:
    data = BytesIO()
    Image.new(mode, size, None if mode == "P" else 128 if mode == "L" else (9, 9, 9)).save(
        data, form, **options
    )
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "least", "most"),
    [
        # A baseline JPEG is shrunk as it comes; of a progressive one all coefficients are kept.
        (encoded((4000, 4000), "JPEG"), 1 * MIB, 30 * MIB),
        (encoded((4000, 4000), "JPEG", progressive=True, subsampling=0), 96_000_000, 140 * MIB),
        (encoded((4000, 4000), "JPEG", progressive=True, subsampling=2), 48_000_000, 80 * MIB),
        (encoded((4000, 4000), "JPEG", "L", progressive=True), 32_000_000, 60 * MIB),
        (encoded((4000, 4000), "PNG"), 13 * 16_000_000, 13 * 16_000_000),
        (encoded((1000, 1000), "WEBP"), 20_000_000, 20_000_000),
        (b"no picture", 0, 0),
    ],
)
def test_a_picture_s_header_says_what_decoding_it_takes(data: bytes, least: int, most: int) -> None:
    found = needed(data, 224)
    assert found is not None
    assert least <= found <= most


def test_only_decoding_tells_of_a_heic() -> None:
    assert needed(b"\0\0\0\x18ftypheic....", 224) is None


def test_what_is_decoded_at_once_never_takes_more_than_there_is(tmp_path: Path) -> None:
    data = encoded((4000, 4000), "JPEG", progressive=True, subsampling=0)
    each = needed(data, 224)
    assert each is not None
    decoding = DecodingMemory(224, machine(tmp_path, 4096 * 1024, v2=str(2 * each + 129 * MIB)))
    lock, inside, most = threading.Lock(), 0, 0

    def decode(_: int) -> None:
        nonlocal inside, most
        with decoding.admitted(data):
            with lock:
                inside += 1
                most = max(most, inside)
            prepare.decode(data, shorter_side=224)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, range(8)))
    assert 1 <= most <= 2


def test_a_picture_that_would_take_more_than_all_is_refused_by_the_parameter_s_name(
    tmp_path: Path,
) -> None:
    decoding = DecodingMemory(224, machine(tmp_path, 1024 * 1024, 200 * 1024))
    with (
        pytest.raises(prepare.ImageError, match="EndpointMemoryMb") as refused,
        decoding.admitted(encoded((9000, 9000), "PNG")),
    ):
        raise AssertionError("let in")
    assert refused.value.code in prepare.CODES
