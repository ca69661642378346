"""``keep`` auto: what is chosen is used, recorded and kept; a stopped search goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from escort_cil import auto
from escort_cil.replay import ReplaySettings, ReplayTest
from escort_cil.run.settings import TrainConfig
from escort_cil.trainer import train
from escort_codec.container import Reader
from escort_codec.errors import ConfigError
from tests.cil.small_runs import logged, quick

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of a second or two: two kinds and rates, one final training."""
    monkeypatch.setattr(auto, "KINDS", ("webp", "prompt"))
    monkeypatch.setattr(auto, "RATES", (150, 400))
    monkeypatch.setattr(auto, "FINALISTS", 2)
    monkeypatch.setattr(auto, "BRIEF", ReplaySettings(steps=2, batch_size=4))
    monkeypatch.setattr(auto, "FULL", ReplaySettings(steps=4, batch_size=4))


def test_the_best_of_the_table_is_kept_in_the_whole_run(small_data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    with logged(lines.append):
        result = train(quick(small_data, keep="auto", budget="8000"), out=tmp_path / "run")
    table = json.loads((tmp_path / "run/keep.json").read_text())["candidates"]
    assert [row["keep"] for row in table] == ["webp:150B", "webp:400B", "prompt:150B", "prompt:400B"]
    assert sum(len(row["full"]) == auto.FOLDS for row in table) == 2
    found = [auto.Candidate(row["keep"], row["brief"], tuple(row["full"])) for row in table]
    best = auto.choice(found).keep
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["keep"] == best == result.config.keep
    assert f"keep auto: the run keeps {best}" in lines
    assert len([line for line in lines if line.startswith("keep auto: ") and "briefly" in line]) == 4
    assert (tmp_path / "run/log.txt").read_text().count("briefly") == 4
    rate = int(best.partition(":")[2].removesuffix("B"))
    with Reader(tmp_path / "run/memory.escx") as reader:
        sizes = [len(each.payload) + len(each.hint or b"") for each in reader]
        assert {each.kind for each in reader} == {"prompt" if best.startswith("prompt") else "real"}
    assert 0 < max(sizes) <= rate
    assert max(record["memory_bytes"] for record in result.records) <= 8000


def test_of_what_the_folds_cannot_tell_apart_the_most_bytes_are_kept() -> None:
    def chosen(**full: tuple[float, ...]) -> str:
        return auto.choice([auto.Candidate(f"webp:{key[1:]}B", 50.0, values) for key, values in full.items()]).keep

    # Differences 4, 4, -4, 4: their mean is 2, twice its standard error 2 * 4 / sqrt(4) = 4.
    assert chosen(_150=(80, 80, 80, 80), _400=(76, 76, 84, 76)) == "webp:400B"
    # Differences 4, 4, 4, 4.5: always worse.
    assert chosen(_150=(80, 80, 80, 80), _400=(76, 76, 76, 75.5)) == "webp:150B"
    assert chosen(_150=(70, 70, 70, 70), _250=(80, 80, 80, 80), _400=(80, 80, 80, 80), _700=()) == "webp:400B"
    assert chosen(_150=(), _250=()) == "webp:150B"  # nothing was trained fully: the first of equals


def test_a_stopped_search_goes_on_and_gives_the_same(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(small_data, keep="auto", budget="8000")
    whole = train(config, out=tmp_path / "whole")
    runs = 0
    real = ReplayTest.run

    def stopping(self: ReplayTest, *args: object, **more: object) -> object:
        nonlocal runs
        runs += 1
        if runs == 4:
            raise KeyboardInterrupt
        return real(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ReplayTest, "run", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(config, out=tmp_path / "run")
    again = train(config, out=tmp_path / "run", resume=True)
    assert runs == 4 + 1 + 2 * auto.FOLDS  # three of the brief ones were not repeated
    assert again.config.keep == whole.config.keep
    tables = [json.loads((tmp_path / name / "keep.json").read_text()) for name in ("whole", "run")]
    assert tables[0] == tables[1]


def test_auto_needs_a_budget_in_bytes_and_images_to_hold_out(small_data: Path, tmp_path: Path) -> None:
    for budget in ("", "20units/class"):
        with pytest.raises(ConfigError, match="budget in bytes"):
            quick(small_data, keep="auto", budget=budget)
    assert TrainConfig.from_map(quick(small_data, keep="auto").to_map()).keep == "auto"
