"""Boxes as DATA: COCO's files, lines of JSON, and the forms that data sets have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from edgekit.core.errors import ConfigError
from edgekit.sources import data_coco, data_files
from edgekit.sources.data import Samples, check_data, read_samples
from edgekit.sources.data_boxes import Boxes

LABELS = ("cat", "dog", "bird")


def pictures(folder: Path, *names: str) -> Path:
    """Small pictures, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (40, 30), (number, 7, 9)).save(folder / name)
    return folder


def coco(path: Path, **changes: object) -> Path:
    """A file in COCO's form with two pictures and three annotations."""
    content: dict[str, object] = {
        "info": {"year": 2017, "notes": [1, {"a": "]}"}]},
        "images": [
            {"id": 7, "file_name": "a.png", "height": 30, "width": 40},
            {"id": 3, "file_name": "b.png", "height": 30, "width": 40},
        ],
        "licenses": [],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 18, "bbox": [1, 2, 3, 4], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 17, "bbox": [0.5, 0, 10, 5.25],
             "segmentation": [[1, 2, 3, 4]]},
            {"id": 3, "image_id": 3, "category_id": 17, "bbox": [5, 6, 7, 8], "iscrowd": 1},
        ],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in {**content, **changes}.items() if value is not None}
    path.write_text(json.dumps(kept))
    return path


def read(path: Path, **options: object) -> Samples:
    """The samples of a detector with three labels."""
    return read_samples(str(path), "object-detection", labels=LABELS, **options)  # type: ignore[arg-type]


def test_coco(tmp_path: Path) -> None:
    """By picture, in the file's order; categories by their names, corners from sizes."""
    pictures(tmp_path, "a.png", "b.png")
    samples = read(coco(tmp_path / "d.json"))
    assert [row["image"] for row in samples.inputs] == [tmp_path / "a.png", tmp_path / "b.png"]
    assert samples.labels == (
        Boxes(((0, 0.5, 0, 10.5, 5.25, 0),), (30, 40)),
        Boxes(((1, 1, 2, 4, 6, 0), (0, 5, 6, 12, 14, 1)), (30, 40)),
    )


@pytest.mark.parametrize("size", [1, 7, 64])
def test_coco_is_read_in_pieces(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a piece ends, what is read is the same."""
    pictures(tmp_path, "a.png", "b.png")
    path = coco(tmp_path / "d.json")
    whole = read(path).labels
    monkeypatch.setattr(data_coco, "_PIECE", size)
    assert read(path).labels == whole


@pytest.mark.parametrize("place", ["images", "../val2017", "val2017"])
def test_pictures_beside_the_file(place: str, tmp_path: Path) -> None:
    """In a folder beside it, or beside its folder, as COCO itself has it."""
    path = coco(tmp_path / "set" / "annotations" / "instances_val2017.json")
    folder = pictures(path.parent / place, "a.png", "b.png")
    assert [Path(str(row["image"])).resolve().parent for row in read(path).inputs] == [
        folder.resolve()
    ] * 2


def test_the_folder_that_the_file_is_called_by(tmp_path: Path) -> None:
    """Where several have the picture; without such a name nobody can tell."""
    path = coco(tmp_path / "annotations" / "instances_val2017.json")
    pictures(tmp_path / "train2017", "a.png", "b.png")
    pictures(tmp_path / "val2017", "a.png", "b.png")
    assert Path(str(read(path).inputs[0]["image"])).parent.name == "val2017"
    path = path.rename(tmp_path / "boxes.json")
    with pytest.raises(ConfigError, match=r"a\.png', which is in .*train2017 and in .*val2017"):
        read(path)


def test_a_folder_has_all_of_the_pictures(tmp_path: Path) -> None:
    """Not only one of the same name, as another split may have; which one was read is told."""
    path = coco(tmp_path / "boxes.json")
    pictures(tmp_path / "train", "a.png")
    pictures(tmp_path / "val", "a.png", "b.png")
    samples = read(path)
    assert {Path(str(row["image"])).parent.name for row in samples.inputs} == {"val"}
    assert samples.notes == ("The pictures of boxes.json are those of val beside it.",)
    (tmp_path / "val" / "b.png").unlink()
    with pytest.raises(ConfigError, match="no folder beside it that holds"):
        read(path)


def test_folders_further_off_are_known_by_name(tmp_path: Path) -> None:
    """Beside the folder of annotations: the one the file is called by, or images."""
    path = coco(tmp_path / "annotations" / "boxes.json")
    folder = pictures(tmp_path / "train2017", "a.png", "b.png")
    with pytest.raises(ConfigError, match="no folder beside it that holds"):
        read(path)
    folder.rename(tmp_path / "images")
    samples = read(path)
    assert {Path(str(row["image"])).parent.name for row in samples.inputs} == {"images"}
    assert samples.notes == ("The pictures of boxes.json are those of ../images beside it.",)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ({"bbox": {}, "colour": {"names": ["red"]}, "category": {"names": ["cat"]}}, ("cat",)),
        ({"feature": {"colour": {"names": ["red"]}, "label": {"names": ["cat"]}}}, ("cat",)),
        ({"label": {"dtype": "int64"}, "colour": {"names": ["red"]}}, ()),
        ({"thing": {"names": ["cat"]}}, ("cat",)),
    ],
)
def test_names_are_those_of_the_class(names: dict[str, object], wanted: tuple[str, ...]) -> None:
    """Other facts of an object may have names, too."""
    assert data_files._class_names(names) == wanted


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "zebra"}]},
         "zebra.*unknown to the model"),
        ({"categories": [{"id": 17, "name": "cat"}]}, "does not name: 18"),
        ({"images": [{"id": 7, "file_name": "a.png"}]}, "images that it does not name: 3"),
        ({"images": []}, "names no images"),
        ({"images": [{"id": 7}]}, "has no id and file_name"),
        ({"images": [1]}, "list of objects, got 1"),
        ({"images": [{"id": 7, "file_name": "a.png"}] * 2}, "two images of the id 7"),
        ({"images": [{"id": 7, "file_name": "none.png"}], "annotations": []},
         "no folder beside it that holds"),
        ({"annotations": [{"image_id": 7, "category_id": 17, "bbox": [1, 2, 3]}]},
         "no image_id, category_id and bbox"),
        ({"annotations": [{"image_id": 7, "category_id": 17, "bbox": [1, 2, -3, 1]}]},
         "no image_id, category_id and bbox"),
        ({"annotations": [{"image_id": 7, "category_id": 17, "bbox": [1, 2, float("nan"), 1]}]},
         "no image_id, category_id and bbox"),
        ({"annotations": [{"image_id": 7, "category_id": 17, "bbox": [1, 2, True, 1]}]},
         "no image_id, category_id and bbox"),
        ({"annotations": [{"image_id": 7, "caption": "a cat"}]}, "captions"),
        ({"categories": [{"id": 17}]}, "has no id and name"),
        ({"categories": None}, "'17' is unknown to the model"),
    ],
)  # fmt: skip
def test_coco_that_is_wrong(changes: dict[str, object], told: str, tmp_path: Path) -> None:
    """What is missing, or fits nothing, is named."""
    pictures(tmp_path, "a.png", "b.png")
    with pytest.raises(ConfigError, match=told):
        read(coco(tmp_path / "d.json", **changes))


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.99])
def test_coco_that_is_cut_off(kept: float, tmp_path: Path) -> None:
    """Wherever it ends, it is told that it is no JSON."""
    pictures(tmp_path, "a.png", "b.png")
    path = coco(tmp_path / "d.json")
    text = path.read_text()
    path.write_text(text[: int(len(text) * kept)])
    with pytest.raises(ConfigError, match="JSON"):
        read(path)


def test_class_numbers_without_categories(tmp_path: Path) -> None:
    """As the model counts them."""
    pictures(tmp_path, "a.png", "b.png")
    boxes = [{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4]}]
    samples = read(coco(tmp_path / "d.json", categories=None, annotations=boxes))
    assert samples.labels == (Boxes(((2, 1, 2, 4, 6, 0),), (30, 40)), Boxes((), (30, 40)))


BIRD = ((2.0, 1.0, 2.0, 11.0, 22.0, 0.0),)


@pytest.mark.parametrize(
    "row",
    [
        {"boxes": [[1, 2, 11, 22]], "labels": ["bird"]},
        {"bbox": [[1, 2, 10, 20]], "category": ["bird"]},
        {"boxes": [[1, 2, 11, 22]], "labels": [2], "iscrowd": [0]},
        {"objects": {"bbox": [[1, 2, 10, 20]], "category": ["bird"], "area": [200]}},
        {"objects": [{"bbox": [1, 2, 10, 20], "category_id": 2, "iscrowd": 0}]},
        {"objects": [{"box": [1, 2, 11, 22], "label": "bird"}]},
    ],
)
def test_lines_of_json(row: dict[str, object], tmp_path: Path) -> None:
    """Corners or sizes, columns or objects, names or numbers: all say the same."""
    pictures(tmp_path, "a.png")
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"image": "a.png", **row}))
    check_data(str(path), "object-detection", labels=LABELS, labels_wanted=True)
    assert read(path).labels == (Boxes(BIRD),)


def test_columns_of_other_names(tmp_path: Path) -> None:
    """Mapped as any other; cells of a CSV hold JSON."""
    pictures(tmp_path, "a.png")
    path = tmp_path / "d.csv"
    path.write_text('image,where,what\na.png,"[[1, 2, 11, 22]]","[""bird""]"\n')
    mapping = {"boxes": "where", "labels": "what"}
    assert read(path, columns=mapping).labels == (Boxes(BIRD),)
    with pytest.raises(ConfigError, match="no column 'whom'"):
        read(path, columns={**mapping, "labels": "whom"})


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"boxes": [[1, 2, 11, 22]], "labels": []}, "1 boxes, 0 labels"),
        ({"boxes": [[1, 2, 11]], "labels": [0]}, "four finite numbers"),
        ({"boxes": [[1, 2, 11, "x"]], "labels": [0]}, "four finite numbers"),
        ({"boxes": [[11, 2, 1, 22]], "labels": [0]}, "ends before it begins"),
        ({"boxes": [[1, 2, 11, 22]], "labels": ["cow"]}, "unknown to the model"),
        ({"boxes": "none", "labels": [0]}, "boxes with labels"),
        ({"objects": 5}, "boxes with labels"),
        ({"objects": [[1, 2]]}, "boxes with labels"),
        ({"objects": {"boxes": [[1, 2, 3, 4]]}}, "boxes with labels"),
        ({"objects": [{"box": [1, 2, 3, 4], "label": 0}, {"label": 0}]}, "not every object"),
    ],
)
def test_rows_that_are_wrong(row: dict[str, object], told: str, tmp_path: Path) -> None:
    """The row is told, and what should be there."""
    pictures(tmp_path, "a.png")
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"image": "a.png", **row}))
    with pytest.raises(ConfigError, match=f"row 1: .*{told}"):
        read(path)


def test_no_objects_and_no_boxes(tmp_path: Path) -> None:
    """A picture may be empty; without any column of boxes the reference's are the truth."""
    pictures(tmp_path, "a.png", "b.png")
    path = tmp_path / "d.jsonl"
    path.write_text('{"image": "a.png", "boxes": [], "labels": []}')
    assert read(path).labels == (Boxes(()),)
    path.write_text('{"image": "a.png"}')
    samples = read(path)
    assert samples.labels is None
    assert "agreement with the reference" in samples.notes[0]
