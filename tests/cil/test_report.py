"""The report: runs found and gathered, figures over seeds, and a page that is whole, safe and the same each time."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from escort_cil.report import write_report
from escort_cil.report.drawing import Placeholders, clean, size_text, styles
from escort_cil.report.gallery import edge_picture, gallery
from escort_cil.report.plots import curves
from escort_cil.report.runs import find_runs, group_runs, read_run
from escort_cil.report.tables import number_cell
from escort_codec.container import Reader, Writer
from escort_codec.errors import OutputError, TrainingError, UnknownNameError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.regenerate.base import Job, JobResult, Regenerator
from tests.cil.run_folders import exemplars, write_run

LABELS = ("ant", "bee", "cat", "dog", "eel")
HOSTILE = (
    "<script>alert(1)",
    '"><img src=x onerror=alert(2)>',
    "$x^{2$ & {{ 7*7 }}",
    "猫\u202ex",
    "</svg></table>",
)


class Elements(HTMLParser):
    """Every element of a page with its attributes and text; fails on an end tag that closes nothing."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_of(runs: Iterable[Path], out: Path, *, pictures: int = 2) -> str:
    write_report(list(runs), out, pictures=pictures)
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods in two orders each, groups of 2, 1 and 2 classes."""
    root = tmp_path_factory.mktemp("runs")
    for method, skill in (("icarl", 0.8), ("der", 0.95)):
        for seed in (1993, 1994):
            order = LABELS if seed == 1993 else LABELS[::-1]
            config = {"method": method, "budget": "20KB", "seed": seed, "command": f"escort train DATA --seed {seed}"}
            write_run(root / method / str(seed), order, (2, 1, 2), config, skill=skill, seed=seed)
    return root


@pytest.fixture(scope="module")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of([runs], tmp_path_factory.mktemp("page") / "report.html")


# Runs


def test_runs_are_found_beneath_a_folder_and_none_twice(runs: Path) -> None:
    found = find_runs([runs / "icarl", runs, runs / "icarl" / "1993"])
    assert [path.relative_to(runs).as_posix() for path in found] == ["icarl/1993", "icarl/1994", "der/1993", "der/1994"]


def test_runs_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("run10", "run9", "run9b", "a/run1", "1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_runs([tmp_path])] == [
        *("1", "a/run1", "run9", "run9b", "run10")
    ]


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nowhere: there is no such folder"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(TrainingError, match=r"no metrics\.jsonl in it or below it"):
        find_runs([tmp_path])


def test_seeds_are_gathered_and_groups_named_by_what_differs(runs: Path) -> None:
    groups = group_runs([read_run(path) for path in find_runs([runs])])
    assert [(group.name, len(group.runs)) for group in groups] == [("der", 2), ("icarl", 2)]
    assert groups[0].differing == {"method": "der"}
    (alone,) = group_runs([read_run(runs / "icarl" / "1993")])
    assert alone.name == "icarl"


def test_budgets_and_options_that_differ_are_named_and_equal_ones_are_not(tmp_path: Path) -> None:
    for n, (budget, options) in enumerate([("20KB", {}), ("40KB", {}), ("40KB", {"temperature": 3.0})]):
        config = {"method": "wa", "budget": budget, "method_options": options, "data": "DATA", "cache": str(n)}
        write_run(tmp_path / str(n), LABELS, (5,), config)
    groups = group_runs([read_run(path) for path in find_runs([tmp_path])])
    assert [group.name for group in groups] == [
        "budget 20KB",
        "budget 40KB",
        "budget 40KB, temperature 3.0",
    ]


def test_what_a_method_brings_along_is_listed_but_not_named(tmp_path: Path) -> None:
    brought: dict[str, dict[str, object]] = {"icarl": {"temperature": 2.0}, "wa": {"temperature": 3.0, "align": True}}
    for method, options in brought.items():
        for budget in ("1KB", "2KB"):
            config = {"method": method, "method_options": options, "budget": budget, "version": method}
            write_run(tmp_path / f"{method}{budget}", LABELS, (5,), config, real=0, prompts=0)
    groups = group_runs([read_run(path) for path in find_runs([tmp_path])])
    assert [group.name for group in groups] == [
        *("icarl, budget 1KB", "icarl, budget 2KB", "wa, budget 1KB", "wa, budget 2KB")
    ]
    assert list(groups[2].differing.items()) == [
        *(("method", "wa"), ("budget", "1KB"), ("method_options.temperature", "3.0"), ("method_options.align", "true"))
    ]
    assert groups[0].differing["method_options.align"] == "not set"


def test_the_same_run_twice_is_no_second_seed(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_run(tmp_path / name, LABELS, (5,), {"method": "wa", "seed": 1})
    groups = group_runs([read_run(path) for path in find_runs([tmp_path])])
    assert [(group.name, len(group.runs)) for group in groups] == [("first", 1), ("second", 1)]


def test_mean_and_deviation_by_phase_are_over_the_seeds_that_reached_it(runs: Path, tmp_path: Path) -> None:
    first, second = (read_run(runs / "icarl" / seed) for seed in ("1993", "1994"))
    (group,) = group_runs([first, second])
    for phase, (classes, mean, deviation) in enumerate(group.by_phase("top1")):
        a, b = (run.records[phase]["top1"] for run in (first, second))
        assert classes == (2, 3, 5)[phase]
        assert mean == pytest.approx((a + b) / 2)
        assert deviation == pytest.approx(abs(a - b) / math.sqrt(2))
    (tmp_path / "config.json").write_text(json.dumps(dict(second.config)))
    (tmp_path / "metrics.jsonl").write_text(json.dumps(second.records[0]) + "\n")
    (group,) = group_runs([first, read_run(tmp_path)])
    assert group.by_phase("top1")[2][1] == first.records[2]["top1"]
    assert math.isnan(group.by_phase("top1")[2][2])
    assert group.by_phase("forgetting")[0][1] != group.by_phase("forgetting")[0][1]  # NaN: nothing to forget


def test_a_line_cut_short_is_left_out_and_said(runs: Path, tmp_path: Path) -> None:
    whole = (runs / "icarl" / "1993" / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(whole[:-20])
    run = read_run(tmp_path)
    assert len(run.records) == 2
    assert any("incomplete" in notice for notice in run.notices)
    assert any("config.json is missing" in notice for notice in run.notices)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.jsonl", "", "has no whole line"),
        ("metrics.jsonl", "{}\n", "line 1: is not a phase's figures: groups"),
        ("metrics.jsonl", '\n{"classes": \n{"classes": 4}\n', "line 2: is not JSON: Expecting value"),
        ("metrics.jsonl", "[1]\n", "line 1"),
        ("config.json", "[]", "is not a configuration"),
        ("config.json", "{", "is not JSON"),
    ],
)
def test_files_that_cannot_be_used_are_named(runs: Path, tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / "metrics.jsonl").write_text((runs / "icarl" / "1993" / "metrics.jsonl").read_text())
    (tmp_path / name).write_text(text)
    with pytest.raises(TrainingError, match=f"{re.escape(name)}.*{message}"):
        read_run(tmp_path)
    (tmp_path / name).write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(TrainingError, match="it is not UTF-8 text"):
        read_run(tmp_path)


# The page


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    elements = Elements(page)
    for tag, attributes in elements.found:
        for key in ("src", "href"):
            assert attributes.get(key, "#").startswith(("#", "data:")), (tag, attributes)
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    urls = set(re.findall(r"url\((.)", page))
    assert urls <= {"#"}


def test_the_policy_allows_the_pages_own_script_alone(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [a["content"] for a in Elements(page).all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_ids_are_unique_and_references_lead_somewhere(page: str) -> None:
    elements = Elements(page)
    ids = Counter(attributes["id"] for _, attributes in elements.found if "id" in attributes)
    assert [key for key, count in ids.items() if count > 1] == []
    for _, attributes in elements.found:
        named = attributes.get("aria-labelledby", "").split()
        linked = [attributes["href"][1:]] if attributes.get("href", "").startswith("#") else []
        assert set(named + linked) <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(ids)


def test_every_plot_and_picture_has_a_text_alternative(page: str) -> None:
    elements = Elements(page)
    plots = [attributes for attributes in elements.all("svg") if attributes.get("class") == "plot"]
    assert len(plots) == 7 + 4 * 3  # seven that compare, three a run
    descriptions = re.findall(r'<desc id="([^"]*)">([^<]*)</desc>', page)
    assert len(descriptions) == len(plots)
    texts = dict(descriptions)
    assert re.search(r"icarl: [\d.]+ at 2 classes, [\d.]+ at 3 classes, [\d.]+ at 5 classes", texts["top1-0-desc"])
    assert "Most often confused" in texts["g0r0-confusion-desc"]
    assert all(attributes["alt"] for attributes in elements.all("img"))


def test_plots_take_their_colours_and_font_from_the_page(page: str) -> None:
    plots = re.findall(r"<svg class=\"plot\".*?</svg>", page, re.DOTALL)
    for plot in plots:
        assert not re.search(r"(fill|stroke): *#", plot)
        assert "DejaVu" not in plot
    assert "var(--s0)" in plots[0]
    assert "currentColor" in plots[0]


def test_figures_of_the_table_are_those_of_the_runs(runs: Path, page: str) -> None:
    values = [
        json.loads((runs / "icarl" / seed / "metrics.jsonl").read_text().splitlines()[-1]) for seed in ("1993", "1994")
    ]
    mean = sum(value["average_incremental_accuracy"] for value in values) / 2
    table = page[page.index('id="table-results"') : page.index("</table>")]
    row = next(row for row in table.split("<tr>") if "<bdi>icarl</bdi>" in row)
    assert f">{mean:.1f} <small>" in row
    assert f'data-sort="{mean}"' in row


def test_the_same_runs_give_the_same_page(runs: Path, page: str, tmp_path: Path) -> None:
    assert page_of([runs], tmp_path / "again.html") == page


def test_hostile_names_are_shown_and_do_nothing(tmp_path: Path) -> None:
    labels = [label for label in HOSTILE if "/" not in label]
    config = {
        "method": HOSTILE[0],
        HOSTILE[1]: HOSTILE[2],
        "command": "escort </code><script>alert(3)</script> \x07\x9b",
    }
    write_run(tmp_path / "runs" / "one", labels, (2, 2), config)
    write_run(tmp_path / "runs" / "<b>", HOSTILE, (2, 3), {**config, "method": HOSTILE[4]}, real=0, prompts=0)
    page = page_of([tmp_path], tmp_path / "report.html", pictures=8)
    elements = Elements(page)
    assert len(elements.all("script")) == 1
    assert elements.all("b") == []
    assert len(elements.all("img")) > 4
    assert all(attributes["src"].startswith("data:image/") for attributes in elements.all("img"))
    assert not any("onerror" in attributes for _, attributes in elements.found)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", page)
    text = "".join(elements.texts)
    for name in (*HOSTILE, "escort </code><script>alert(3)</script> \ufffd\ufffd"):
        assert name in text  # as it is: through neither matplotlib's mathematics nor the template


def test_a_run_without_memory_or_counts_still_has_a_page(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = write_run(tmp_path / "run", LABELS, (5,), {"method": "finetune"}, real=0, prompts=0)
    (run / "confusion.npz").unlink()
    page = page_of([run], tmp_path / "report.html")
    assert "The run keeps no memory file." in page
    assert "no confusion matrix" in page
    assert f"{run}: no confusion matrix" in caplog.text
    assert "Forgetting" not in page  # one phase: there is nothing to forget


def test_a_damaged_memory_is_named_on_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", LABELS, (5,), {"method": "wa"})
    data = (run / "memory.escx").read_bytes()
    (run / "memory.escx").write_bytes(data[: len(data) // 2])
    page = page_of([run], tmp_path / "report.html")
    assert "memory.escx cannot be read" in page


def test_phases_are_numbered_as_in_training(page: str) -> None:
    assert page.count("Phase 3</button>") == page.count("Phase 1</button>") == 8  # two tables of four runs
    assert "Phase 0" not in page
    assert page.count("After phase 3, in per cent") == 4
    assert "phase 1: " in page
    assert "phase 0: " not in page


def test_one_point_shows_its_deviation(tmp_path: Path) -> None:
    """Of two phases there is one figure of forgetting: a band would have no width."""
    for seed in (1, 2):
        write_run(tmp_path / str(seed), LABELS, (2, 3), {"seed": seed}, seed=seed, real=0, prompts=0)
    (group,) = group_runs([read_run(path) for path in find_runs([tmp_path])])
    plot = curves([group], "forgetting", "f", "Forgetting", "points")
    assert plot is not None
    assert "LineCollection" in plot.svg  # the bar
    alone = curves([replace(group, runs=group.runs[:1])], "forgetting", "f", "Forgetting", "points")
    assert alone is not None
    assert "LineCollection" not in alone.svg


def test_each_view_has_its_own_curve_and_rows(tmp_path: Path) -> None:
    views = ("real", "regenerated", "both")
    run = write_run(tmp_path / "run", LABELS, (2, 3), {"method": "wa"}, views=views)
    page = page_of([run], tmp_path / "report.html", pictures=0)
    assert "Evaluation views" in page
    assert all(f'id="top1-{n}-desc"' in page for n in range(3))
    last = read_run(run).records[-1]
    assert f'data-sort="{last["views"]["both"]["top1"]}"' in page


def test_many_classes_and_groups_are_told_apart(tmp_path: Path) -> None:
    labels = [f"class {c} of many" for c in range(40)]
    for n in range(12):
        write_run(tmp_path / f"run{n}", labels, (20, 20), {"method": f"m{n}"}, real=0, prompts=0)
    groups = group_runs([read_run(path) for path in find_runs([tmp_path])])
    drawn = [(style.colour, style.dash[0], style.marker) for style in styles(groups)]
    assert len(set(drawn)) == 12
    assert "Classes are in the class order." in page_of([tmp_path], tmp_path / "report.html")


def test_styles_give_a_colour_to_a_method_and_a_dash_to_a_budget(tmp_path: Path) -> None:
    for method in ("icarl", "wa"):
        for budget in ("1KB", "2KB"):
            config = {"method": method, "budget": budget}
            write_run(tmp_path / f"{method}{budget}", LABELS, (5,), config, real=0, prompts=0)
    icarl, icarl2, wa, wa2 = styles(group_runs([read_run(path) for path in find_runs([tmp_path])]))
    assert icarl.colour == icarl2.colour != wa.colour == wa2.colour
    assert icarl.dash == wa.dash != icarl2.dash == wa2.dash


# Runs that were trained


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of the trainer on drawn pictures, an epoch a phase at 16 pixels. Takes some seconds, and is the proof
    that the page reads what training writes."""
    from escort_cil.demo.drawings import draw_dataset
    from escort_cil.run.settings import TrainConfig
    from escort_cil.trainer import train

    root = tmp_path_factory.mktemp("trained")
    draw_dataset(root / "data", classes=5, train=6, test=3, size=40)
    small = TrainConfig(
        data=str(root / "data"), increment=2, backbone="resnet10", image_size=16, epochs=1, batch_size=16, workers=1
    )
    kept = replace(small, method="wa", budget="8KB", keep="50% original + 50% prompt", coding="rle", eval_views="both")
    for seed in (1, 2):
        command = ["/somewhere/bin/escort", "train", str(root / "data"), "--seed", str(seed)]
        train(replace(kept, seed=seed), out=root / "runs" / f"wa-{seed}", command=command)
    train(replace(small, method="finetune"), out=root / "runs" / "finetune", command=["escort", "train"])
    return root / "runs"


def test_trained_runs_are_read_whole(trained: Path, tmp_path: Path) -> None:
    groups = write_report([trained], tmp_path / "report.html", pictures=4)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [(group.name, len(group.runs)) for group in groups] == [("finetune", 1), ("wa", 2)]
    assert [run.notices for group in groups for run in group.runs] == [(), (), ()]
    assert '<p class="notice">' not in page
    runs = groups[1].runs
    assert set(runs[0].labels) == {path.name for path in (trained.parent / "data" / "train").iterdir()}
    assert groups[1].last("memory_bytes")[0] == sum((run.path / "memory.escx").stat().st_size for run in runs) / 2
    for run in runs:
        assert run.figures is not None
        shown = run.figures.to_record()
        assert {key: run.records[-1][key] for key in shown if not key.startswith("memory")} == {
            key: value for key, value in shown.items() if not key.startswith("memory")
        }
        held = [run.records[-1][f"memory_{kind}_by_class"] for kind in ("real", "prompt")]
        assert sum(map(sum, held)) == len(Reader(run.path / "memory.escx"))
    assert f"<code>escort train {trained.parent / 'data'} --seed 1</code>" in page
    assert "Evaluation views" in page
    elements = Elements(page)
    assert {attributes["alt"].split(": ")[1] for attributes in elements.all("img")} >= {
        *("the image that is kept", "the edge map", "the colour hint", "regenerated with seed 0")
    }
    assert all(decoded(attributes["src"]).size[0] > 0 for attributes in elements.all("img"))


# Writing


def test_what_cannot_be_written_leaves_nothing(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        write_report([runs], tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        write_report([runs], tmp_path / "missing" / "report.html", pictures=0)
    with pytest.raises(UsageError, match="0 to 200"):
        write_report([runs], tmp_path / "report.html", pictures=-1)
    with pytest.raises(UnknownNameError, match="harmonic"):
        write_report([runs], tmp_path / "report.html", regenerator="harmonics")
    assert list(tmp_path.iterdir()) == []


# Pictures and words


class Failing(Regenerator):
    """Makes seed 0 red, and fails on every other."""

    name = "failing"

    def recipe(self, exemplar: Exemplar) -> object:  # type: ignore[override]
        return exemplar.recipe

    def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        from escort_codec.errors import RegenerationError

        for job in reversed(list(jobs)):
            red = np.zeros((*job.exemplar.size, 3), np.uint8)
            red[..., 0] = 255
            error = RegenerationError("no <colour> left")
            bad = job.seed != 0
            yield JobResult(job, None if bad else red, job.exemplar.recipe, error if bad else None)


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_gallery_shows_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "memory.escx"
    with Writer(path) as writer:
        for exemplar in exemplars(LABELS, real=1, prompts=3):
            writer.add(exemplar)
    shown = gallery(path, 6, Failing())
    assert [entry.kind for entry in shown] == ["prompt"] * 3 + ["real"] * 3
    assert len({entry.title.partition("/")[0] for entry in shown[:3]}) == 3
    edges, hint, made, failed = shown[0].pictures
    with Writer(tmp_path / "again.escx") as writer:
        writer.add(exemplars(LABELS, 1, 3)[1])
    assert (np.array(decoded(edges.uri)) == ~exemplars(LABELS, 1, 3)[1].edges).all()
    assert decoded(hint.uri).size == (hint.width, hint.height) == (48, 36)
    assert made.caption == "seed 0"
    red = np.array(decoded(made.uri).convert("RGB")).reshape(-1, 3).mean(axis=0)
    assert red[0] > 240
    assert red[1] < 15
    assert failed.uri == ""
    assert failed.alt == "not regenerated: no <colour> left"
    assert decoded(shown[3].pictures[0].uri).size == (80, 60)


def test_gallery_regenerates_no_image_of_a_size_that_a_file_made_up(tmp_path: Path) -> None:
    edges = np.zeros((8, 8), np.bool_)
    with Writer(tmp_path / "memory.escx") as writer:
        writer.add(Exemplar.from_edges(edges, label="ant", name="a.png", size=(8192, 8192), coding="rle"))
    (entry,) = gallery(tmp_path / "memory.escx", 1, Failing())
    assert entry.pictures[-1].alt == "not regenerated: 8192 × 8192 pixels are too many for a page"


def test_gallery_has_no_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "memory.escx"
    with Writer(path) as writer:
        for exemplar in exemplars(LABELS[:2], real=3, prompts=0):
            writer.add(exemplar)
    assert [entry.kind for entry in gallery(path, 4, Failing())] == ["real"] * 4
    assert len(gallery(path, 20, Failing())) == 6


def test_no_edge_of_a_large_map_is_lost() -> None:
    edges = np.zeros((1030, 2050), bool)
    edges[517, 3] = edges[1029, 2049] = True
    picture = edge_picture(edges, "cat", "9 B")
    shown = np.array(decoded(picture.uri))
    assert (picture.width, picture.height) == (410, 206)
    assert sorted(map(tuple, np.argwhere(~shown).tolist())) == [(103, 0), (205, 409)]


def test_names_are_held_at_their_length_and_cut_at_the_width() -> None:
    names = Placeholders(width=6)
    tokens = [names.hold(name) for name in ("$x$", "abcdefgh", "\x00")]
    assert [names.restore(token) for token in tokens] == ["$x$", "abcde…", "\ufffd"]
    assert len(set(tokens)) == 3
    assert names.restore("12") == "12"


def test_numbers_as_people_read_them() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 20480, 999_400, 999_600, 2e6, 3.5e9, 4e12)] == [
        *("0 B", "999 B", "1.00 kB", "20.5 kB", "999 kB", "1.00 MB", "2.00 MB", "3.50 GB", "4000 GB")
    ]
    assert size_text(20000, short=True) == "20 kB"
    assert number_cell(math.nan).text == "–"
    assert number_cell(12345.678).text == "12\u202f345.7"
    assert number_cell(50, deviation=1.25).note == "± 1.2"
    assert clean("a\nb\ud800") == "a\ufffdb\ufffd"
