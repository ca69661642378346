"""Several files as one memory: a folder or a pattern, for everything that a reader does."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from typer.testing import CliRunner

import escort_codec
from escort_cli.app import app
from escort_codec.container import Reader, Writer
from escort_codec.container import shards as module
from escort_codec.container.measure import measure_file
from escort_codec.container.shards import ShardedReader, is_there, parts_of
from escort_codec.errors import EscortError, NotEscxError, UsageError
from escort_codec.exemplar import Exemplar
from tests.helpers import in_child, make_exemplars

EXEMPLARS = make_exemplars(900)


def write(path: Path, exemplars: list[Exemplar], **options: str) -> None:
    with Writer(path, **options) as writer:  # type: ignore[arg-type]
        for exemplar in exemplars:
            writer.add(exemplar)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Three parts whose names are not in the order of their keys, and files that are none."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, start in (("part-c", 0), ("part-a", 300), ("part-b", 600)):
        write(folder / f"{name}.escx", EXEMPLARS[start : start + 300], source="photos")
    (folder / ".hidden.escx").write_bytes(b"")
    (folder / "part-d.escx.partial").write_bytes(b"")
    (folder / "notes.txt").write_text("three parts")
    return folder


def test_a_folder_and_a_pattern_open_as_the_merged_file_does(parts: Path, tmp_path: Path) -> None:
    write(tmp_path / "whole.escx", EXEMPLARS, source="photos")
    for sharded in (parts, parts / "part-*.escx", parts / "part-[abc].escx"):
        with escort_codec.open(sharded) as reader, Reader(tmp_path / "whole.escx") as whole:
            assert isinstance(reader, ShardedReader)
            assert list(reader) == list(whole) == EXEMPLARS
            assert (len(reader), reader.labels, reader.seeds) == (900, whole.labels, whole.seeds)
            assert (reader.source, reader.background, set(reader.recipes)) == ("photos", "", set(whole.recipes))
            assert reader.of_label("class-1") == whole.of_label("class-1")
            assert [reader.find(EXEMPLARS[i].key) for i in (0, 299, 300, 899)] == [0, 299, 300, 899]
            assert not reader.__contains__("class-9/none.jpg")
            assert reader[-1] == EXEMPLARS[-1]
            assert reader[295:305] == EXEMPLARS[295:305]
            assert reader.__getitems__([800, 2, 400]) == [EXEMPLARS[i] for i in (800, 2, 400)]
            assert reader.size == sum(path.stat().st_size for path in parts.glob("part-?.escx"))
            sizes, expected = measure_file(reader), measure_file(whole)
            assert (sizes.prompts, sizes.edge_bytes) == (expected.prompts, expected.edge_bytes)


def test_it_travels_to_other_processes(parts: Path) -> None:
    with escort_codec.open(parts) as reader:
        assert pickle.loads(pickle.dumps(reader))[500] == EXEMPLARS[500]

        def child() -> None:
            assert reader[700] == EXEMPLARS[700]

        assert in_child(child) == 0
        data = pickle.dumps(reader)
        write(parts / "other.escx", EXEMPLARS[600:601])
        (parts / "other.escx").replace(parts / "part-b.escx")
        with pytest.raises(EscortError, match="was replaced by another file since the reader was pickled"):
            pickle.loads(data)


def test_few_files_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN", 3)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(12):
        write(folder / f"{number:02}.escx", EXEMPLARS[number * 5 : number * 5 + 5])
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    with escort_codec.open(folder) as reader:
        assert list(reader) == EXEMPLARS[:60]
        assert [reader[number] for number in range(59, -1, -7)] == EXEMPLARS[59::-7]
        if descriptors.exists():
            assert len(list(descriptors.iterdir())) <= before + 4


def test_parts_whose_keys_overlap_are_in_the_order_of_their_names_and_have_no_doubles(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    write(folder / "b.escx", EXEMPLARS[::2])
    write(folder / "a.escx", EXEMPLARS[1::2])
    assert list(escort_codec.open(folder)) == EXEMPLARS[1::2] + EXEMPLARS[::2]
    write(folder / "c.escx", [EXEMPLARS[40]])
    with pytest.raises(UsageError, match=rf"{EXEMPLARS[40].key} is in .*b\.escx and .*c\.escx"):
        escort_codec.open(folder)


def test_what_is_no_memory_is_one_line(tmp_path: Path) -> None:
    for path, line in ((tmp_path, "holds no .escx files"), (tmp_path / "x-*.escx", "no file matches")):
        with pytest.raises(NotEscxError, match=line):
            escort_codec.open(path)
        assert not is_there(path)
    with pytest.raises(EscortError, match="cannot be opened"):
        escort_codec.open(tmp_path / "none.escx")
    odd = tmp_path / "odd[1].escx"
    write(odd, EXEMPLARS[:2])
    assert parts_of(odd) == [odd]  # a file of that name is no pattern
    write(tmp_path / "two.escx", EXEMPLARS[:2])
    with pytest.raises(UsageError, match="open them one by one"):
        escort_codec.open(tmp_path, recover=True)


def test_commands_take_folders_and_patterns(parts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.stdout

    assert json.loads(run("inspect", "parts", "--json"))["sizes"]["exemplars"] == 900
    assert "900 exemplars in " in run("verify", "parts/part-*.escx")
    run("decode", "parts", "--out", "images", "--seeds", "0", "--limit", "3", "--class", "class-2")
    assert len(list(Path("images", "class-2").rglob("*.jpg"))) == 3
    run("extract", "parts", "--out", "sub.escx", "--class", "class-1")
    assert list(escort_codec.open("sub.escx")) == EXEMPLARS[300:600]
    run("merge", "parts/part-*.escx", "--out", "all.escx", "--keep-recipes")
    assert list(escort_codec.open("all.escx")) == EXEMPLARS


def test_verify_names_the_part_that_is_damaged(parts: Path) -> None:
    data = bytearray((parts / "part-a.escx").read_bytes())
    data[len(data) // 2] ^= 1
    (parts / "part-a.escx").write_bytes(data)
    result = CliRunner().invoke(app, ["verify", str(parts)])
    assert result.exit_code == 1
    assert "part-a.escx: " in result.stderr
    result = CliRunner().invoke(app, ["extract", str(parts), "--out", str(parts / "sub"), "--class", "class-2"])
    assert result.exit_code == 0  # the other parts are whole
