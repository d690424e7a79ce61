"""What the demo makes of a folder: its classes, its name, its exam, and its complaints."""

from pathlib import Path

import pytest
from PIL import Image

from demo import DemoError
from demo.dataset import (
    HELD_OUT_MOST,
    Picture,
    classifier_name,
    exam_names,
    hold_out,
    read_folder,
)
from droplens.domain.layout import is_classifier_name


def draw(path: Path, shade: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, shade // 2, 255 - shade)).save(path)
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """20 cats, 10 of them a folder deeper, and 3 dogs; no two pictures alike."""
    folder = tmp_path / "My Pets"
    for number in range(10):
        draw(folder / "cat" / f"{number}.png", number)
        draw(folder / "cat" / "more" / f"{number}.PNG", 50 + number)
    for number in range(3):
        draw(folder / "dog" / f"{number}.jpeg", 100 + number * 20)
    return folder


def test_classes_are_the_folders_and_pictures_may_lie_deeper(pets: Path) -> None:
    dataset = read_folder(pets)
    assert dataset.classes == ["cat", "dog"]
    assert len(dataset.pictures) == 23
    assert "more/7.PNG" in {picture.name for picture in dataset.pictures}


def test_hidden_files_are_ignored_and_other_files_counted(pets: Path) -> None:
    draw(pets / "cat" / ".thumbnails" / "0.png", 1)
    draw(pets / ".git" / "0.png", 1)
    (pets / "cat" / ".DS_Store").write_bytes(b"x")
    (pets / "cat" / "notes.txt").write_text("cats")
    dataset = read_folder(pets)
    assert (len(dataset.pictures), dataset.others) == (23, 1)
    assert dataset.classes == ["cat", "dog"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("cars24", "cars24"),
        ("My Pets", "my-pets"),
        ("--Vögel (2024)__", "v-gel-2024"),
        ("鳥", "pictures"),
        ("a" * 30 + " tail", "a" * 30),
        ("x" * 50, "x" * 31),
    ],
)
def test_a_classifier_is_called_after_its_folder(folder: str, name: str) -> None:
    assert classifier_name(folder) == name
    assert is_classifier_name(name)


def test_a_folder_named_by_dots_is_called_by_its_real_name(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pets / "cat")
    assert read_folder(Path("..")).classifier == "my-pets"


def test_a_fifth_of_each_class_is_held_out_and_never_learnt_from(pets: Path) -> None:
    split = hold_out(read_folder(pets))
    by_class = [picture.label for picture in split.held_out]
    assert (by_class.count("cat"), by_class.count("dog")) == (4, 1)
    held_out = {picture.path for picture in split.held_out}
    learning = {picture.path for picture in split.learning}
    assert not held_out & learning
    assert len(held_out | learning) == 23


def test_the_same_seed_holds_out_the_same_pictures_and_another_seed_others(pets: Path) -> None:
    dataset = read_folder(pets)
    assert hold_out(dataset, seed=1) == hold_out(dataset, seed=1)
    assert hold_out(dataset, seed=1) != hold_out(dataset, seed=2)


def test_a_large_class_gives_no_more_than_one_can_look_at(tmp_path: Path) -> None:
    for number in range(100):
        draw(tmp_path / "many" / f"{number}.png", number)
    for number in range(2):
        draw(tmp_path / "two" / f"{number}.png", 200 + number)
    labels = [picture.label for picture in hold_out(read_folder(tmp_path)).held_out]
    assert (labels.count("many"), labels.count("two")) == (HELD_OUT_MOST, 1)


def test_a_picture_that_is_there_twice_is_not_asked_about(pets: Path) -> None:
    for number in range(9):  # leaves one dog and one cat that are there only once
        twin = pets / "dog" / f"twin-{number}.png"
        twin.write_bytes((pets / "cat" / f"{number}.png").read_bytes())
        (pets / "cat" / "more" / f"{number}.PNG").write_bytes(twin.read_bytes())
    split = hold_out(read_folder(pets))
    learnt = {picture.path.read_bytes() for picture in split.learning}
    assert split.held_out
    assert not [picture for picture in split.held_out if picture.path.read_bytes() in learnt]


def test_a_file_that_is_no_picture_inside_is_not_asked_about(pets: Path) -> None:
    for number in range(2):
        (pets / "dog" / f"{number}.jpeg").write_text(f"not a picture {number}")
    dogs = [picture for picture in hold_out(read_folder(pets)).held_out if picture.label == "dog"]
    assert [picture.name for picture in dogs] == ["2.jpeg"]


def test_a_dataset_of_nothing_but_copies_is_refused(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        draw(tmp_path / name, 7)
    with pytest.raises(DemoError, match="can be held out"):
        hold_out(read_folder(tmp_path))


def test_exam_files_have_names_of_their_own_that_do_not_tell_the_class() -> None:
    pictures = [
        Picture(Path("/p/cat/1.png"), "cat", "1.png"),
        Picture(Path("/p/dog/1.png"), "dog", "1.png"),
        Picture(Path("/p/dog/2.png"), "dog", "2.png"),
    ]
    names = exam_names(pictures)
    assert list(names) == ["001-1.png", "002-1.png", "2.png"]
    assert list(names.values()) == pictures


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="nowhere does not exist"):
        read_folder(tmp_path / "nowhere")


def test_a_file_is_told_from_a_folder(tmp_path: Path) -> None:
    archive = tmp_path / "cars.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(DemoError, match="is a file; the demo takes a folder"):
        read_folder(archive)


def test_pictures_without_class_folders_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "1.png", 1)
    with pytest.raises(DemoError, match="holds no class folders"):
        read_folder(tmp_path)


def test_class_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    with pytest.raises(DemoError, match="no pictures in"):
        read_folder(tmp_path)


def test_one_class_is_refused_and_the_folder_inside_is_suggested(pets: Path) -> None:
    with pytest.raises(DemoError, match="one class only, 'My Pets'") as caught:
        read_folder(pets.parent)
    assert f"DATASET={pets}" in caught.value.hint


def test_one_class_with_no_folders_inside_asks_for_a_second(tmp_path: Path) -> None:
    draw(tmp_path / "cat" / "1.png", 1)
    draw(tmp_path / "cat" / "2.png", 2)
    with pytest.raises(DemoError, match="a classifier needs two") as caught:
        read_folder(tmp_path)
    assert "second class" in caught.value.hint


def test_a_class_with_a_single_picture_is_named(pets: Path) -> None:
    draw(pets / "bird" / "1.png", 9)
    with pytest.raises(DemoError, match="only one picture in 'bird'"):
        read_folder(pets)


def test_photographs_are_split_by_class(photographs: Path) -> None:
    dataset = read_folder(photographs)
    split = hold_out(dataset)
    assert dataset.classes == sorted(folder.name for folder in photographs.iterdir())
    assert {picture.label for picture in split.held_out} == set(dataset.classes)
    assert len(split.held_out) + len(split.learning) == len(dataset.pictures)
