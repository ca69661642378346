"""``escort import``: small sets that the libraries themselves wrote, as plain folders; continued; nothing outside."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from escort_cli.app import app
from escort_codec.errors import EscortError, ImageError, OutputError, SourceError
from escort_codec.imports.item import ImportOptions
from escort_codec.imports.pipeline import import_data
from escort_codec.progress import Progress
from escort_codec.source import load_rgb, scan


def picture(number: int, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((6, 5, 3), number, np.uint8)).save(file, form)
    return file.getvalue()


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images(folder: Path) -> dict[str, bytes]:
    """The imported files, without the record."""
    found = files(folder)
    assert json.loads(found.pop("import.json"))["done"] is True
    return found


def class_folders(folder: Path, splits: tuple[str, ...] = ("train", "val")) -> None:
    for split in splits:
        for number, label in enumerate(("cat", "dog")):
            place = folder / split / label
            place.mkdir(parents=True)
            (place / "a.png").write_bytes(picture(number))
            (place / "a.txt").write_text(f"one {label}")


CLASS_FOLDERS = {
    f"{split}/{label}/a.{ending}": data
    for split in ("train", "val")
    for number, label in enumerate(("cat", "dog"))
    for ending, data in (("png", picture(number)), ("txt", f"one {label}".encode()))
}


def test_class_folders_as_pycil_and_torchvision_have_them(tmp_path: Path) -> None:
    class_folders(tmp_path / "imagenet100")
    report = import_data(tmp_path / "imagenet100", tmp_path / "new")
    assert images(tmp_path / "new") == CLASS_FOLDERS
    assert (report.splits, report.classes, report.captions) == ({"train": 2, "val": 2}, 2, 4)
    assert [image.caption for image in scan(tmp_path / "new")] == ["one cat", "one dog"]


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_archives_of_class_folders(tmp_path: Path, ending: str) -> None:
    class_folders(tmp_path / "data" / "wrapped")
    (tmp_path / "data" / "__MACOSX").mkdir()
    (tmp_path / "data" / "__MACOSX" / "._a.png").write_bytes(b"litter")
    archive = tmp_path / f"set.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(archive, "w") as opened:
            for path in sorted((tmp_path / "data").rglob("*")):
                opened.write(path, path.relative_to(tmp_path / "data"))
    else:
        with tarfile.open(archive, "w:gz" if ending.endswith("gz") else "w") as tar:
            tar.add(tmp_path / "data", ".")
    import_data(archive, tmp_path / "new")
    assert images(tmp_path / "new") == CLASS_FOLDERS


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "cat/../../evil.png", "C:\\evil.png"])
def test_names_that_lead_out_of_an_archive_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("cat/a.png", picture(0))
        opened.writestr(name, picture(1))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for each in ("cat/a.png", name):
            info = tarfile.TarInfo(each)
            info.size = len(picture(1))
            tar.addfile(info, io.BytesIO(picture(1)))
    before = set(files(tmp_path))
    for archive in ("a.zip", "a.tar"):
        with pytest.raises(SourceError, match="leads out of the archive"):
            import_data(tmp_path / archive, tmp_path / "new")
    assert set(files(tmp_path)) == before


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(9))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("cat/link.png")
        info.type, info.linkname = tarfile.SYMTYPE, "../../secret.png"
        tar.addfile(info)
        info = tarfile.TarInfo("cat/a.png")
        info.size = len(picture(1))
        tar.addfile(info, io.BytesIO(picture(1)))
    import_data(tmp_path / "a.tar", tmp_path / "new")
    assert images(tmp_path / "new") == {"train/cat/a.png": picture(1)}


def test_a_cut_archive_is_one_line(tmp_path: Path) -> None:
    class_folders(tmp_path / "data")
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "data", ".")
    data = (tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"cut\.tar\.gz: is damaged, cut off"):
        import_data(tmp_path / "cut.tar.gz", tmp_path / "new")


def test_webdataset_shards(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="webdataset is not installed (extra dev)")
    (tmp_path / "wds").mkdir()
    for split, shard in (("train", 0), ("train", 1), ("test", 0)):
        with wds.TarWriter(str(tmp_path / "wds" / f"{split}-{shard:04}.tar")) as writer:
            for number in range(2):
                sample = {"__key__": f"{shard}{number}", "jpg": picture(number, "JPEG"), "cls": number}
                writer.write(sample | {"txt": f"picture {number}", "json": {"width": 5}})
    (tmp_path / "wds" / "classnames.txt").write_text("tabby cat\nterrier\n")
    report = import_data(tmp_path / "wds", tmp_path / "new")
    found = images(tmp_path / "new")
    assert report.splits == {"test": 2, "train": 4}
    assert found["train/tabby cat/10.jpg"] == picture(0, "JPEG")
    assert found["test/terrier/01.txt"] == b"picture 1"
    pattern = import_data(tmp_path / "wds" / "train-*.tar", tmp_path / "other", ImportOptions(label="cls"))
    assert pattern.splits == {"train": 4}


def test_parquet_by_pyarrow_without_types(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra import)")
    import pyarrow.parquet as pq

    table = pa.table({"img": [picture(n) for n in range(3)], "class": ["a", "b", "a"], "caption": ["x y", None, ""]})
    pq.write_table(table, tmp_path / "train-0.parquet")
    import_data(tmp_path / "train-0.parquet", tmp_path / "new")
    assert images(tmp_path / "new") == {
        "train/a/train-0-000000.png": picture(0),
        "train/a/train-0-000000.txt": b"x y",
        "train/b/train-0-000001.png": picture(1),
        "train/a/train-0-000002.png": picture(2),
    }
    with pytest.raises(SourceError, match=r"has no column 'kind' \(there are img, class, caption\)"):
        import_data(tmp_path / "train-0.parquet", tmp_path / "new2", ImportOptions(label="kind"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match=r"bad\.parquet: cannot be read"):
        import_data(tmp_path / "bad.parquet", tmp_path / "new3")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pytest.importorskip("datasets", reason="datasets is not installed (extra import)")


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_data_sets_from_a_folder(tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    features = hub.Features(
        {"image": hub.Image(), "label": hub.ClassLabel(names=["tabby cat", "dog"]), "text": hub.Value("string")}
    )
    rows = {
        "image": [{"bytes": picture(n), "path": f"p{n}.png"} for n in range(4)],
        "label": [0, 1, 0, 1],
        "text": [f"the {n}th" for n in range(4)],
    }
    both = hub.DatasetDict(
        {"train": hub.Dataset.from_dict(rows, features), "test": hub.Dataset.from_dict(rows, features)}
    )
    both.save_to_disk("saved")
    (tmp_path / "parquet" / "data").mkdir(parents=True)
    for split in both:
        both[split].to_parquet(f"parquet/data/{split}-00000-of-00001.parquet")
    before = set(files(tmp_path))
    for number, source in enumerate(("hf:./saved", "hf:./parquet", "parquet")):
        report = import_data(source, tmp_path / f"new{number}")
        found = images(tmp_path / f"new{number}")
        assert report.splits == {"train": 4, "test": 4}
        assert found["test/tabby cat/p2.png"] == picture(2)
        assert found["train/dog/p1.txt"] == b"the 1th"
        assert len(found) == 16
    assert {name for name in set(files(tmp_path)) - before if not name.startswith("new")} == set()
    only = import_data("hf:./parquet", tmp_path / "only", ImportOptions(split="test", limit=3))
    assert only.splits == {"test": 3}
    with pytest.raises(SourceError, match=r"hf:\./nothing: there is no such folder"):
        import_data("hf:./nothing", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_cifar_and_mnist_as_torchvision_downloads_them(tmp_path: Path) -> None:
    cifar = tmp_path / "cifar" / "cifar-100-python"
    cifar.mkdir(parents=True)
    pixels = np.arange(2 * 3072, dtype=np.int64).reshape(2, 3072).astype(np.uint8)
    for name in ("train", "test"):
        batch = {b"data": pixels, b"fine_labels": [1, 0], b"filenames": [b"x_1.png", b"y_2.png"]}
        (cifar / name).write_bytes(pickle.dumps(batch, 2))
    (cifar / "meta").write_bytes(pickle.dumps({b"fine_label_names": [b"apple", b"aquarium_fish"]}, 2))
    import_data(tmp_path / "cifar", tmp_path / "new")
    assert len(images(tmp_path / "new")) == 4
    rgb = load_rgb(tmp_path / "new" / "test" / "aquarium_fish" / "x_1.png")
    assert np.array_equal(rgb, pixels[0].reshape(3, 32, 32).transpose(1, 2, 0))
    raw = tmp_path / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        data = struct.pack(">IIII", 2051, 2, 28, 28) + bytes(784) + bytes([200]) * 784
        (raw / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(data))
        (raw / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">II", 2049, 2) + b"\x07\x03"))
    import_data(tmp_path / "mnist", tmp_path / "digits")
    assert sorted(images(tmp_path / "digits")) == [
        *("test/3/000001.png", "test/7/000000.png", "train/3/000001.png", "train/7/000000.png")
    ]


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('ran')",)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    cifar = tmp_path / "cifar-10-batches-py"
    cifar.mkdir()
    (cifar / "batches.meta").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(SourceError, match=r"asks for builtins\.exec"):
        import_data(cifar, tmp_path / "new")


class _Stopping(Progress):
    """Stops the third image, as Ctrl-C would."""

    def __init__(self) -> None:
        self.left = 3

    def advance(self, count: int = 1, note: str = "") -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_stopped_import_continues_and_ends_with_the_same_files(tmp_path: Path) -> None:
    class_folders(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        import_data(tmp_path / "data", tmp_path / "new", progress=_Stopping())
    assert json.loads((tmp_path / "new" / "import.json").read_text())["done"] is False
    kept = (tmp_path / "new" / "train" / "cat" / "a.png").stat().st_mtime_ns
    (tmp_path / "new" / "train" / "dog" / "a.png").write_bytes(b"torn")
    report = import_data(tmp_path / "data", tmp_path / "new")
    assert (report.written, report.existed) == (2, 2)
    assert images(tmp_path / "new") == CLASS_FOLDERS
    assert (tmp_path / "new" / "train" / "cat" / "a.png").stat().st_mtime_ns == kept
    class_folders(tmp_path / "data2")
    with pytest.raises(OutputError, match="holds an import with source"):
        import_data(tmp_path / "data2", tmp_path / "new")


def test_folders_with_other_files_are_left_alone(tmp_path: Path) -> None:
    class_folders(tmp_path / "data")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputError, match="holds other files"):
        import_data(tmp_path / "data", tmp_path / "mine")
    assert files(tmp_path / "mine") == {"thesis.txt": b"all of it"}


def test_bad_images_stop_or_are_skipped(tmp_path: Path) -> None:
    class_folders(tmp_path / "data")
    (tmp_path / "data" / "train" / "cat" / "b.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"b\.png: is not an image"):
        import_data(tmp_path / "data", tmp_path / "new")
    report = import_data(tmp_path / "data", tmp_path / "new", ImportOptions(on_error="skip"))
    assert len(report.skipped) == 1
    assert images(tmp_path / "new") == CLASS_FOLDERS


def test_names_of_classes_become_safe_and_the_prompt_keeps_them(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for key, data in (("1.png", picture(1)), ("1.cls", b"AUX: a/b"), ("2.png", picture(2)), ("2.cls", b"aux: A/B")):
            info = tarfile.TarInfo(key)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    import_data(tmp_path / "a.tar", tmp_path / "new")
    labels = {image.label.lower(): image.caption for image in scan(tmp_path / "new")}
    assert len(labels) == 2
    assert set(labels.values()) == {"AUX: a/b", "aux: A/B"}


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "data")
    result = CliRunner().invoke(app, ["import", "data", "new", "--split", "train"])
    assert (result.exit_code, result.stdout) == (0, "new: train/ 2 images, of 2 classes, 2 with a caption\n")
    result = CliRunner().invoke(app, ["import", "nothing", "other"])
    assert (result.exit_code, result.stderr) == (
        1,
        "escort import: nothing: there is no such file or folder\n",
    )
    assert not (tmp_path / "other").exists()
    result = CliRunner().invoke(app, ["encode", "new", "a.escx"])
    assert result.exit_code == 0
    with pytest.raises(EscortError):
        import_data(tmp_path / "a.escx", tmp_path / "other")
