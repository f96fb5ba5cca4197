"""The command from end to end: the drawn drive through the tiny bundle, its table, its figures and its report."""

import argparse
import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from re2pix_node.bundle.reader import Bundle
from re2pix_node.commands.evaluate import add_arguments, run
from re2pix_node.errors import Re2pixError
from re2pix_node.evaluation.rows import ROWS
from re2pix_node.evaluation.table import COLUMNS, PAGE, cell
from tests.support import drive
from tests.support.worlds import street_labels

RATE = 50 / 3  # a frame each 0.06 s


def evaluate(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(["--engine", "onnxruntime", "--threads", "1", *map(str, arguments)]))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pieces of the drawn drive, with labels, in the layout of docs/data.md."""
    folder = tmp_path_factory.mktemp("drives")
    for piece in range(6):
        pictures, labels = folder / f"piece{piece}" / "images", folder / f"piece{piece}" / "labels"
        pictures.mkdir(parents=True)
        labels.mkdir()
        for i in range(23):
            frame = drive.frame(3.0 * piece + i / RATE, 256, 128)
            cv2.imwrite(str(pictures / f"{i:04}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            cv2.imwrite(str(labels / f"{i:04}.png"), street_labels(frame))
        (pictures.parent / "dataset.yaml").write_text(f"rate: {RATE}\nimages: images\nlabels: labels\n")
    return folder


class Judged:
    def __init__(self, folder: Path, printed: str) -> None:
        self.printed = printed
        self.result = json.loads((folder / "scores.json").read_text())
        self.page = folder / "report.html"


@pytest.fixture(scope="module")
def judged(tiny: Bundle, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("judged")
    printed = io.StringIO()
    files = ["--json", folder / "scores.json", "--report", folder / "report.html"]
    with contextlib.redirect_stdout(printed):
        assert evaluate("--bundle", tiny.path, "--data", data, *files) == 0
    assert {path.name for path in folder.iterdir()} == {"scores.json", "report.html"}
    return Judged(folder, printed.getvalue())


def test_the_drawn_drive_is_scored_against_its_true_labels(judged: Judged) -> None:
    result = judged.result
    assert result["reference"] == "true"
    assert result["labelled_samples"] == result["samples"] > 20
    assert result["head_agreement"] == 1
    assert result["rate"]["frames_per_second"] > 1
    assert result["ridge"].startswith("cross-fitted in two folds")
    assert [re.search(r"piece\d", clip["name"]).group() for clip in result["clips"]] == [f"piece{i}" for i in range(6)]
    for horizon, seconds in zip(result["horizons"], (0.18, 0.36, 0.54), strict=True):
        rows = horizon["rows"]
        assert list(rows) == list(ROWS)
        # While the first context fills, the spacing is shorter.
        assert horizon["seconds"]["min"] < horizon["seconds"]["mean"] < seconds + 1e-6
        assert horizon["seconds"]["max"] == pytest.approx(seconds)
        # A head that uses colours labels a drawn street well; copying is worse.
        assert rows["oracle"]["accuracy"]["value"] > 0.85
        assert rows["oracle"]["miou"]["value"] > rows["copy"]["miou"]["value"]
        assert rows["oracle"]["changed_accuracy"]["value"] > rows["copy"]["changed_accuracy"]["value"] + 0.3
        assert 0 < rows["copy"]["consistency"]["value"] < 1
        # What changes is the truth, and not what the head reads: where the head errs, copying may come out right.
        assert rows["copy"]["changed_accuracy"]["value"] > 0.02
    copying = [horizon["rows"]["copy"]["accuracy"]["value"] for horizon in result["horizons"]]
    assert copying[0] == max(copying)  # houses and trees come at even steps: later ones may fit again by chance
    assert 0 < result["now"]["flicker"]["value"] < 0.2


def test_the_table_shows_the_figures_of_the_json(judged: Judged) -> None:
    lines = judged.printed.splitlines()
    assert max(map(len, lines)) <= PAGE
    for row in ROWS:
        shown = [line.split() for line in lines if re.match(rf"{row} ", line)]
        assert len(shown) == 3
        for horizon, cells in zip(judged.result["horizons"], shown, strict=True):
            scored = horizon["rows"][row]
            for text, name in zip(cells[1:], COLUMNS, strict=False):
                if text == "-":
                    assert scored[name]["value"] is None
                    continue
                value, half = text.split("±")
                assert float(value) == pytest.approx(scored[name]["value"], abs=0.00051)
                assert float(half) == pytest.approx((scored[name]["high"] - scored[name]["low"]) / 2, abs=0.00051)
            assert cells[-1] == cell(scored["gap_closed"].get("miou"), percent=True)
    for horizon in judged.result["horizons"]:
        for sentence in horizon["verdict"]:
            assert sentence in " ".join(judged.printed.split())


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data) -> None:
        self.texts.append(data)


def test_the_report_needs_nothing_but_itself(judged: Judged) -> None:
    page = Page(judged.page.read_text())
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert len(links) == 1 + 3 + 3 * 6  # icon, plots, pictures of three clips
    assert all(link.startswith("data:") for link in links)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "@import" not in judged.page.read_text()
    assert "url(" not in judged.page.read_text()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=4000"),
]
# A script at the end of a copy of the page, which writes the facts to check into the page.
PROBE = """<script>addEventListener("load", () => {
  const pictures = [...document.images];
  document.body.dataset.pictures = pictures.length;
  document.body.dataset.loaded = pictures.filter(p => p.complete && p.naturalWidth > 0).length;
  const requests = performance.getEntriesByType("resource").filter(r => !r.name.startsWith("data:"));
  document.body.dataset.requests = requests.length;
  document.body.dataset.wide = document.documentElement.scrollWidth - innerWidth;
  document.body.dataset.headings = [...document.querySelectorAll("h1, h2")].map(h => h.innerText).join("|");
})</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt install chromium")
def test_the_report_in_a_browser(judged: Judged, tmp_path: Path) -> None:
    probed = tmp_path / "probed.html"
    probed.write_text(judged.page.read_text().replace("</body>", PROBE + "</body>"))
    command = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,900"]
    seen = subprocess.run([*command, "--dump-dom", probed.as_uri()], capture_output=True, text=True, timeout=60)
    page = Page(seen.stdout)
    body = next(attributes for tag, attributes in page.tags if tag == "body")
    assert body["data-pictures"] == body["data-loaded"] == str(3 + 3 * 6)
    assert body["data-requests"] == "0"
    assert int(body["data-wide"]) <= 0  # nothing to scroll sideways for
    title, *sections = body["data-headings"].split("|")
    assert title == "tiny 1: how good are its forecasts?"
    expected = ["Verdict", "Scores", "Over the horizons", "Classes", "Confidence", "Clips", "How it was measured"]
    assert sections == expected
    text = " ".join(page.texts)
    for horizon in judged.result["horizons"]:
        assert f"the flow warp at {horizon['seconds']['mean']:.2f} s" in text
    for shown in ("difference to the reference", "camera now", "only the forecast right"):
        assert shown in text
    for place, name in judged.result["ranking"]["shown"].items():
        assert f"{place}: {name}" in text
    for row in ROWS:
        assert page.texts.count(row) >= 3 + 3, row  # in the scores and in the classes of each horizon
    miou = judged.result["horizons"][0]["rows"]["forecast"]["miou"]
    assert f"{miou['value']:.3f}" in page.texts
    assert f"{miou['low']:.3f} to {miou['high']:.3f}" in page.texts


def test_the_same_run_gives_the_same_figures(judged: Judged, tiny: Bundle, data: Path, tmp_path: Path) -> None:
    evaluate("--bundle", tiny.path, "--data", data, "--json", tmp_path / "again.json")
    again = json.loads((tmp_path / "again.json").read_text())
    for part in ("horizons", "now", "clips", "ranking", "notes"):
        assert again[part] == judged.result[part]


def test_labels_can_be_left_unused(tiny: Bundle, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--bundle", tiny.path, "--data", data / "piece0", "--baselines", "none", "--every", "3"]
    assert evaluate(*arguments, "--ignore-labels") == 0
    printed = capsys.readouterr().out
    assert "no true labels" in printed
    assert not re.search(r"^(warp|ridge)", printed, re.MULTILINE)
    oracle = next(line for line in printed.splitlines() if line.startswith("oracle"))
    assert oracle.split()[3:5] == ["1.000", "1.000"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--baselines", "warp,magic"], "there is no baseline 'magic': choose from warp, warp-head, ridge, or none"),
        (["--every", "0"], "--every must be at least 1, is 0"),
        (["--fit", "squeeze"], "there is no fit 'squeeze'"),
        (["--json", "/nowhere/at/all.json"], "the folder /nowhere/at does not exist"),
        (["--ridge-data", "DATA"], "given as --data and as --ridge-data"),
        (["--ridge-data", "/nowhere"], "/nowhere"),
    ],
)
def test_what_is_wrong_is_said_at_once(tiny: Bundle, data: Path, arguments: list[str], fault: str) -> None:
    arguments = [str(data) if argument == "DATA" else argument for argument in arguments]
    with pytest.raises(Re2pixError, match=re.escape(fault)):
        evaluate("--bundle", tiny.path, "--data", data, *arguments)


def test_a_report_without_matplotlib_is_refused_before_the_work(
    tiny: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "re2pix_node.evaluation.plots", raising=False)
    with pytest.raises(Re2pixError, match=r"pip install -r requirements/evaluate\.txt"):
        evaluate("--bundle", tiny.path, "--data", data, "--report", tmp_path / "report.html")


def test_scoring_and_its_table_need_neither_torch_nor_matplotlib_nor_ros(tiny: Bundle, data: Path) -> None:
    script = (
        "import sys, argparse\n"
        "absent = ('torch', 'torchmetrics', 'matplotlib', 'rclpy', 're2pix_node.ros.node')\n"
        "for name in absent: sys.modules[name] = None\n"
        "from re2pix_node.commands.evaluate import add_arguments, run\n"
        "parser = argparse.ArgumentParser(); add_arguments(parser); sys.exit(run(parser.parse_args()))\n"
    )
    arguments = ["--bundle", tiny.path, "--data", data / "piece0", "--every", "5", "--engine", "onnxruntime"]
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no intervals: fewer than 6 clips" in done.stdout
    assert "±" not in done.stdout
    assert "(without intervals)" in done.stdout


def test_true_labels_of_the_drawn_street_are_sound() -> None:
    labels = street_labels(drive.frame(1.0, 256, 128))
    assert (labels != 255).mean() > 0.85
    assert (labels[:8] == 10).mean() > 0.5  # sky
    assert (labels[-8:, 100:156][labels[-8:, 100:156] != 255] == 0).all()  # road
    assert set(np.unique(labels)) == {0, 2, 8, 10, 13, 255}
