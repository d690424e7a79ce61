"""Labelled lists, row by row: which label a row gives, and why another row gives none."""

import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_prep.errors import JobError
from batch_prep.sources import label_files
from batch_prep.sources import labels as labels_module
from batch_prep.sources.entries import File, FolderSeen, Ignored, Refused
from batch_prep.sources.label_files import read_list
from batch_prep.sources.labels import Labels, Row, from_archive, gather
from batch_prep.storage.local import LocalFolder


def read(root: Path, name: str, text: str | bytes, names: str = "") -> Labels:
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    if names:
        (root / "classes.txt").write_text(names)
    return read_list(LocalFolder(root), name, 1000)


def labelled(labels: Labels) -> dict[str, str]:
    return {path: label for path, (label, _, _) in labels.rows.items()}


@pytest.mark.parametrize(
    "text",
    [
        "x.jpg,cat\ny.jpg,dog\n",
        "path,label\nx.jpg,cat\ny.jpg,dog",
        "Label;extra;File\ncat;1;x.jpg\ndog;2;y.jpg\n",
        "\n\nimage\tclass\nx.jpg\tcat\n\n,\ny.jpg\tdog\n",
        "label,class_name,filename\n0,cat,x.jpg\n1,dog,y.jpg\n",
        '"./x.jpg"," cat "\n"y.jpg","dog"\n',
    ],
)
def test_the_ways_to_write_a_csv(tmp_path: Path, text: str) -> None:
    assert labelled(read(tmp_path, "labels.csv", text)) == {"x.jpg": "cat", "y.jpg": "dog"}


def test_a_broken_csv_row_costs_itself_and_keeps_the_line_numbers(tmp_path: Path) -> None:
    text = 'path,label\nx.jpg,"a"b\n"y\n.jpg",a\nz.jpg,a\nw.jpg\n'
    labels = read(tmp_path, "labels.csv", text)
    assert labels.rows == {"y\n.jpg": ("a", 3, ""), "z.jpg": ("a", 5, "")}
    assert [entry.name for entry in labels.refused] == [
        "line 2 of labels.csv",
        "line 6 of labels.csv",
    ]


@pytest.mark.parametrize("label", ["", "  ", "x" * 300, "two\nlines", "bell\a"])
def test_a_label_that_cannot_be_a_class_name_is_refused(tmp_path: Path, label: str) -> None:
    labels = read(tmp_path, "labels.csv", f'path,label\nx.jpg,"{label}"\n')
    assert labels.rows == {}
    assert [entry.code for entry in labels.refused] == ["row.label"]


def judged(kind: str = "groundtruth/image-classification", **more: Any) -> dict[str, Any]:
    return {"class-name": "cat", "type": kind, **more}


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({"class": "cat"}, "cat"),
        ({"class": "3"}, "3"),
        ({"species": "cat"}, "cat"),
        ({"label": "cat", "photographer": "me", "size": [1, 2]}, "cat"),
        ({"class": 1}, "dog"),
        ({"class": 1.0}, "dog"),
        ({"job": 0, "job-metadata": judged()}, "cat"),
        ({"job": 1, "job-metadata": {"type": "groundtruth/image-classification"}}, "dog"),
        ({"note": "x", "job": 0, "job-metadata": judged()}, "cat"),
        (
            {
                "job": 0,
                "job-metadata": judged(),
                "check": 1,
                "check-metadata": judged("groundtruth/label-verification"),
            },
            "cat",
        ),
    ],
)
def test_the_label_of_an_augmented_manifest(
    tmp_path: Path, row: dict[str, Any], label: str
) -> None:
    text = json.dumps({"source-ref": "x.jpg", **row})
    assert labelled(read(tmp_path, "labels.jsonl", text, "cat\ndog\n")) == {"x.jpg": label}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1, 2]", "it is no JSON object with a source-ref"),
        ('{"class": "cat"}', "it is no JSON object with a source-ref"),
        ('{"source-ref": 7, "class": "cat"}', "it is no JSON object with a source-ref"),
        ('{"source-ref": "x.jpg"', "it is not JSON"),
        ('{"source-ref": "x.jpg"}', "it has not one label but 0: none"),
        ('{"source-ref": "x", "m": 1, "n": 2}', "it has not one label but 2: m, n"),
        ('{"source-ref": "x", "m": {"a": 1}}', "its label 'm' is neither a text nor a number"),
        ('{"source-ref": "x", "m": true}', "its label 'm' is neither a text nor a number"),
        ('{"source-ref": "x", "m": NaN}', "its label 'nan' is no whole number from 0"),
        ('{"source-ref": "x", "m": 1.5}', "its label '1.5' is no whole number from 0"),
        ('{"source-ref": "x", "m": 2}', "its label is 2, but only 0 to 1 have names"),
        (
            json.dumps(
                {
                    "source-ref": "x",
                    "m": [1],
                    "m-metadata": judged("groundtruth/image-classification-multilabel"),
                }
            ),
            "its label 'm' is of the type groundtruth/image-classification-multilabel",
        ),
        ('{"source-ref": "\\ud800", "m": "cat"}', "'utf-8' codec can't encode"),
        ('{"source-ref": "x", "m": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ("[" * 100_000, "its JSON is nested too deeply"),
    ],
)
def test_a_bad_line_of_a_manifest_is_refused_with_its_number(
    tmp_path: Path, line: str, reason: str
) -> None:
    good = '{"source-ref": "y.jpg", "class": "cat"}'
    labels = read(tmp_path, "labels.jsonl", f"{good}\n{line}\n", "cat\ndog\n")
    assert labelled(labels) == {"y.jpg": "cat"}
    [refused] = labels.refused
    assert refused.reason.startswith(f"line 2 of labels.jsonl: {reason}")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 1 x.jpg", "it has 1 tab-separated cells"),
        ("0\t1\t2\tx.jpg", "it has 4 tab-separated cells"),
        ("0\tcat\tx.jpg", "its label 'cat' is no whole number from 0"),
        ("0\t-1\tx.jpg", "its label '-1' is no whole number from 0"),
        ("0\t0.5\tx.jpg", "its label '0.5' is no whole number from 0"),
        ("0\t9\tx.jpg", "its label is 9, but only 0 to 1 have names"),
        ("0\t1\t", "it names no picture"),
    ],
)
def test_a_bad_line_of_an_lst_is_refused_with_its_number(
    tmp_path: Path, line: str, reason: str
) -> None:
    labels = read(tmp_path, "labels.lst", f"0\t1.000000\ty.jpg\n{line}\n", "cat\ndog\n")
    assert labelled(labels) == {"y.jpg": "dog"}
    [refused] = labels.refused
    assert refused.reason.startswith(f"line 2 of labels.lst: {reason}")


def test_a_list_too_long_for_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_files, "_LONGEST_LIST", 10)
    with pytest.raises(JobError, match=r"labels\.csv has more than 10 bytes"):
        read(tmp_path, "labels.csv", "x.jpg,cat\ny.jpg,dog\n")


@given(text=st.binary(max_size=200), name=st.sampled_from(["csv", "jsonl", "lst"]))
def test_any_bytes_are_a_list_or_fail_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, name: str
) -> None:
    root = tmp_path_factory.mktemp("list")
    with suppress(JobError):
        labels = read(root, f"labels.{name}", text)
        assert labels.rows or labels.refused


# ---- more than anybody means


def test_a_list_of_too_many_lines_is_refused_before_they_are_kept(tmp_path: Path) -> None:
    """40 MB took 55 s and 2.45 GB. The reader of these tests takes a thousand lines."""
    for name, line in (("labels.csv", "a,b\n"), ("labels.lst", "0\t0\ta\n"), ("labels.csv", "\n")):
        with pytest.raises(JobError, match=f"{name} has more than 1,000 lines"):
            read(tmp_path, name, "path,label\n" + line * 1000)


def test_a_quote_that_is_never_closed_is_bounded_too(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="more than 1,000 lines"):
        read(tmp_path, "labels.csv", 'path,label\n"' + "a,b\n" * 5000)


def test_rows_that_repeat_others_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels_module, "_MOST_REPEATS", 3)
    labels = read(tmp_path, "labels.csv", "path,label\n" + "a.jpg,a\n" * 10)
    assert labelled(labels) == {"a.jpg": "a"}
    assert [entry.code for entry in labels.refused] == ["list.repeated"] * 4
    assert labels.refused[-1].reason == "6 more rows repeat others"


def test_too_many_bad_rows_end_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_module, "_MOST_BAD_ROWS", 3)
    with pytest.raises(
        JobError, match=r"More than 3 rows of labels\.csv cannot be used; the first"
    ):
        read(tmp_path, "labels.csv", "path,label\n" + "../a.jpg,a\n" * 4)
    conflicting = "".join(f"a.jpg,{number}\n" for number in range(5))
    with pytest.raises(JobError, match="'0' in line 2, '1' in line 3"):
        read(tmp_path, "labels.csv", "path,label\n" + conflicting)


def test_a_path_that_no_key_can_have_costs_its_row(tmp_path: Path) -> None:
    labels = read(tmp_path, "labels.csv", f"path,label\n{'x' * 100_000},a\nb.jpg,b\n")
    assert labelled(labels) == {"b.jpg": "b"}
    [refused] = labels.refused
    assert (refused.code, len(refused.name) <= 1024) == ("row.path", True)
    assert "100,000 characters" in refused.reason


SPLIT_LISTS = {
    "labels.csv": "split;path;label\nTrain;a.jpg;cat\nvalid;b.jpg;cat\nval;c.jpg;dog\n"
    "validation;d.jpg;dog\ntest ;e.jpg;cat\n3;f.jpg;cat\n;g.jpg;cat\n",
    "labels.jsonl": "\n".join(
        json.dumps({"source-ref": path, "any-name": label, "split": split})
        for path, label, split in [
            ("a.jpg", "cat", "Train"),
            ("b.jpg", "cat", "valid"),
            ("c.jpg", "dog", "val"),
            ("d.jpg", "dog", "validation"),
            ("e.jpg", "cat", "test "),
            ("f.jpg", "cat", "3"),
            ("g.jpg", "cat", ""),
        ]
    ),
}


@pytest.mark.parametrize("name", SPLIT_LISTS)
def test_a_split_is_read_and_one_that_is_unknown_costs_its_row(tmp_path: Path, name: str) -> None:
    labels = read(tmp_path, name, SPLIT_LISTS[name])
    assert {path: split for path, (_, _, split) in labels.rows.items()} == {
        "a.jpg": "train",
        "b.jpg": "validation",
        "c.jpg": "validation",
        "d.jpg": "validation",
        "e.jpg": "test",
    }
    assert set(labelled(labels).values()) == {"cat", "dog"}
    first = 7 if name.endswith("csv") else 6
    assert [(one.name, one.code, one.reason) for one in labels.refused] == [
        (
            "f.jpg",
            "row.split",
            (
                f"line {first} of {name}: its split '3' is none of train, training, val, valid, "
                "validation, test, testing"
            ),
        ),
        ("g.jpg", "row.split", f"line {first + 1} of {name}: it has no split"),
    ]


def test_a_label_that_is_called_split_stays_a_label(tmp_path: Path) -> None:
    text = json.dumps({"source-ref": "x.jpg", "split": "log"})
    assert labelled(read(tmp_path, "labels.jsonl", text)) == {"x.jpg": "log"}


def test_a_picture_in_two_splits_is_in_none(tmp_path: Path) -> None:
    text = "path,label,split\nx.jpg,cat,train\nx.jpg,cat,test\ny.jpg,cat,train\n"
    labels = read(tmp_path, "labels.csv", text)
    assert set(labels.rows) == {"y.jpg"}
    assert [(one.code, one.reason) for one in labels.refused] == [
        (
            "row.conflict",
            (
                "labels.csv gives it several splits, 'cat' for train in line 2, 'cat' for test in "
                "line 3, so it is left out"
            ),
        )
    ]


def test_of_an_archive_every_listed_picture_is_labelled_whatever_lies_between() -> None:
    labels = gather("labels.csv", [Row(n, f"p/{n}.jpg", "ab"[n % 2]) for n in (1, 2, 3)], "row")

    def picture(path: str) -> File:
        return File(path, tuple(path.split("/")), lambda: b"", 1)

    unsafe = Refused("../x.jpg", (), "file.unsafe_path", "?")
    too_large = Refused("p/3.jpg", ("p", "3.jpg"), "image.too_large", "?")
    archive: Any = SimpleNamespace(
        entries=[
            FolderSeen(("p",)),
            picture("p/1.jpg"),
            Ignored("Thumbs.db", by_system=True),
            picture("p/1.jpg"),
            unsafe,
            picture("p/4.jpg"),
            FolderSeen(("q",)),
            too_large,
        ]
    )
    first, *others = from_archive(labels, archive, "pictures.zip")
    assert isinstance(first, File)
    assert (first.parts, first.split) == (("b", "p", "1.jpg"), "")
    assert others == [
        Refused("p/1.jpg", (), "list.repeated", "pictures.zip holds it more than once"),
        unsafe,
        Refused("p/4.jpg", (), "list.unnamed", "labels.csv does not name it"),
        Refused("p/3.jpg", ("b", "p", "3.jpg"), "image.too_large", "?"),
        Refused(
            "p/2.jpg",
            ("a", "p/2.jpg"),
            "row.missing",
            "row 2 of labels.csv: pictures.zip holds no such file",
        ),
    ]
