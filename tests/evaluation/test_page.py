import base64
import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from h2d.data.dataset import ShardDataset
from h2d.data.schema import Sample, encode_sample
from h2d.data.shards import Manifest, ShardInfo, write_manifest, write_tar
from h2d.data.square import square_sample
from h2d.errors import DataError
from h2d.evaluation.breakdown import GESTURE_KEYS, extremes
from h2d.evaluation.comparison import BESIDE
from h2d.evaluation.measurements import add_rows
from h2d.evaluation.numbers import measure_store
from h2d.evaluation.page import write_page
from h2d.evaluation.page_words import LABELS, MEANINGS, date_of, versions_of
from h2d.evaluation.report import shown, write_report
from h2d.evaluation.rows import Row, Store
from h2d.evaluation.selection import Selection
from h2d.experiment import MetricsConfig
from h2d.files import sha256_of
from h2d.images import encode_png, load_image
from h2d.metrics.image_suite import ImageNetworks
from h2d.metrics.suite import MAIN_KEYS, Suite
from h2d.pictures import Picture
from h2d.skeleton import SIGMAS

SIZE, COUNT = 300, 11
GESTURES = ("fist", "palm", "")
NOBODY = np.zeros((133, 3), np.float32)
METRICS = MetricsConfig(oks_area_factor=0.53)
HOSTILE = """<script>alert("x")</script> & 'quotes' </style>"""
FAR = [3.0, 1.0, 0.0, 4.0, 8.0, 16.0, None, 2.0, 32.0, 6.0, None]
"""How far the pose found in each picture is from the one asked for, in pixels; None where nobody was found."""
NEAR = [0.05 * 1.8**number for number in range(COUNT)]


def person(number, caption="a person waves", gesture=None):
    rng = np.random.default_rng(number)
    pose = np.concatenate([rng.uniform(60, 240, (133, 2)), np.full((133, 1), 2)], axis=1).astype(np.float32)
    if number % 3 == 2:
        pose[91:, 2] = 0
    gesture = GESTURES[number % 3] if gesture is None else gesture
    meta = {"schema": 1, "key": f"s/{number}", "gesture": gesture}
    image = np.full((SIZE, SIZE, 3), (250, 20 * number, 10), np.uint8)
    return Sample(f"s/{number}", image, np.zeros((SIZE, SIZE), np.uint8), pose, caption, meta)


PEOPLE = [person(number) for number in range(COUNT)]


def shards(folder, people=PEOPLE):
    path = folder / "shards" / "test-000000.tar"
    path.parent.mkdir(parents=True)
    rows = (
        (p.key, encode_sample(p.key, encode_png(p.image), "png", p.hands, p.pose, p.caption, p.meta)) for p in people
    )
    write_tar(path, rows)
    info = ShardInfo(path.name, "test", len(people), path.stat().st_size, sha256_of(path))
    write_manifest(path.parent, Manifest((info,), {}, {}))
    return ShardDataset(path.parent, "test", lambda raw, draw: dict(raw))


def moved(pose, distance):
    return pose + np.array([distance, 0, 0], np.float32) if distance is not None else NOBODY


def rows_of(people, distances):
    """Rows whose poses lie so far beside the truth; without ``distances`` no poses were looked for."""
    truths = [square_sample(sample, SIZE).pose for sample in people]
    found = (
        [None] * len(people) if distances is None else [moved(*pair) for pair in zip(truths, distances, strict=True)]
    )
    return [
        Row(number, sample.key, sample.meta["gesture"], pose, 0.5 + number / 100, truth)
        for number, (sample, pose, truth) in enumerate(zip(people, found, truths, strict=True))
    ]


def colour(name, number):
    return len(name) * 7 % 256, 15 * number, 200


def system(run, name, data, distances=FAR, people=PEOPLE, **facts):
    """A finished evaluation whose pictures are of one colour each."""
    store, numbers = Store(run / f"system-{len(list(run.glob('system-*')))}"), tuple(range(len(people)))
    selection, rows, nothing = Selection(numbers, 4), rows_of(people, distances), torch.zeros(0, 1, 1, 1)
    for batch, part in enumerate(selection.batches):
        images = [np.full((SIZE, SIZE, 3), colour(name, number), np.uint8) for number in part]
        pictures = [
            Picture(number, people[number], {"result": image}, nothing, nothing)
            for number, image in zip(part, images, strict=True)
        ]
        store.write(batch, [rows[number] for number in part], pictures, ())
    same = {"split": "test", "shards": "x", "image_size": SIZE, "seed": 0, "metrics": vars(METRICS)}
    outcome = measure_store(store, data, selection, {"method": name, **same, **facts}, METRICS, ImageNetworks())
    write_report(store, outcome, numbers)
    return store.folder


class Page(HTMLParser):
    """Tags with their attributes, and what stands in the cells and texts of each section."""

    VOID = ("meta", "img")

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.tables, self.figures, self.texts, self.cells = [], [], {}, {}, {}, []
        self.section, self.text = "", ""
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = attrs["id"]
        elif tag == "tr":
            self.tables.setdefault(self.section, []).append([])
        elif tag in ("td", "th"):
            self.tables[self.section][-1].append("")
            self.cells.append((self.section, attrs))
        elif tag == "figure":
            self.figures.setdefault(self.section, []).append({"pictures": [], "text": ""})
        elif tag == "img":
            self.figures[self.section][-1]["pictures"].append((attrs["alt"], decoded(attrs["src"])))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        self.texts[self.section] = self.texts.get(self.section, "") + data
        if "td" in self.open or "th" in self.open:
            self.tables[self.section][-1][-1] += data
        if "figcaption" in self.open:
            self.figures[self.section][-1]["text"] += data

    def table(self, section):
        return [[cell.strip() for cell in row] for row in self.tables[section]]


def decoded(uri):
    head, _, content = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    image = load_image(base64.b64decode(content, validate=True))
    assert max(image.shape) <= 256
    return image


def has_colour(image, wanted):
    return np.abs(np.median(image.reshape(-1, 3).astype(int), axis=0) - wanted).max() <= 6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "two-systems"
    run.mkdir()
    data = shards(run)
    systems = [system(run, "near", data, NEAR), system(run, "far", data, preset="uniform")]
    return run, systems, data, Page(write_page(run, systems, data))


def test_the_page_needs_nothing_but_itself(run):
    folder, _, _, page = run
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    targets = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert len(targets) == len([attrs for _, attrs in page.tags if "id" in attrs])
    for _, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        assert attrs.get("src", "data:").startswith("data:")
        if "href" in attrs:
            assert attrs["href"][0] == "#"
            assert attrs["href"][1:] in targets
    text = (folder / "index.html").read_text()
    assert "url(" not in text
    assert "@import" not in text
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["index.html", "side_by_side.png"]


def test_the_head_says_what_was_measured_when_and_by_what(run):
    page, provenance = run[3], json.loads((run[1][1] / "metrics.json").read_text())["provenance"]
    for words in ("two-systems", f"2 systems on {COUNT} samples", "split “test”", provenance["time"][:10]):
        assert words in page.text
    assert f"h2d {provenance['h2d']}" in page.text
    assert (provenance["commit"] or "")[:10] in page.text


def test_numbers_stand_in_their_columns_and_the_best_is_bold(run):
    _, systems, _, page = run
    reports = [json.loads((folder / "metrics.json").read_text()) for folder in systems]
    names = [name for name in (*MAIN_KEYS, *BESIDE) if reports[0].get(name) is not None]
    head, *rows = page.table("numbers")
    assert [text.replace("\xa0", " ").split(" ↑")[0].split(" ↓")[0] for text in head] == [
        "system",
        *(LABELS[name] for name in names),
    ]
    assert [text[-1] for text in head[2:]] == ["↑", "↑", "↓", "↓", "↑", "↑"]
    assert rows == [
        [label, *(shown(report[name]) for name in names)]
        for label, report in zip(("near", "far (uniform)"), reports, strict=True)
    ]
    cells = [attrs.get("class") for section, attrs in page.cells if section == "numbers"]
    bold = [
        [value == "best" for value in cells[first : first + len(head)]] for first in range(0, len(cells), len(head))
    ]
    assert bold == [[False] * 8, [False] * 2 + [True] * 6, [False] * 8]


def test_what_is_missing_has_its_reason_on_the_cell_and_below_the_table(tmp_path):
    data = shards(tmp_path)
    systems = [system(tmp_path, "seen", data), system(tmp_path, "unseen", data, None)]
    page = Page(write_page(tmp_path, systems, data))
    row = page.table("numbers")[2]
    assert row[:2] == ["unseen", str(COUNT)]
    assert {text[0] for text in row[2:]} == {"-"}
    titles = [attrs["title"] for section, attrs in page.cells if section == "numbers" and "title" in attrs]
    assert titles.count("evaluation.detector=none") == 6
    assert (
        "DAP, DAP hands, MPJPE, MPJPE hands, detected, hands detected (unseen): evaluation.detector=none"
        in page.texts["numbers"]
    )
    note = row[2][1:]
    assert ("li", {"id": f"note-{note}"}) in page.tags
    assert "oks_area_factor 0.53" in " ".join(page.texts["numbers"].split())
    by_gesture = [row for row in page.table("gestures") if row[0] == "unseen"]
    assert len(by_gesture) == 3
    assert all(row[2:] == ["-"] * 5 for row in by_gesture)


def test_the_numbers_of_a_gesture_are_the_suite_s_over_its_samples(run):
    _, head, *rows = [None, *run[3].table("gestures")]
    assert [text.replace("\xa0", " ") for text in head][:2] == ["gesture, system", "n"]
    expected = []
    for gesture in sorted(GESTURES):
        members = [number for number in range(COUNT) if GESTURES[number % 3] == gesture]
        expected.append([gesture or "not known", str(len(members)), *[""] * 5])
        for label, distances in (("near", NEAR), ("far (uniform)", FAR)):
            suite, everything = Suite(metrics=METRICS), rows_of(PEOPLE, distances)
            add_rows(suite, [everything[number] for number in members], SIZE, True)
            values = suite.compute()
            expected.append([label, "", *(shown(values[name]) for name in GESTURE_KEYS)])
    assert rows == expected
    assert "-" in rows[1], "nobody without a known gesture shows a hand"


def test_best_and_worst_are_chosen_and_told_by_the_metric(run):
    _, systems, _, page = run
    figures = page.figures["extremes"]
    texts = [" ".join(figure["text"].split()) for figure in figures]
    order = [int(text.split("sample ")[1].split()[0]) for text in texts]
    assert order == [0, 1, 2, 3, 10, 9, 8, 7, 2, 1, 7, 0, 6, 10, 8, 5]
    assert texts[12].startswith("nobody found, MPJPE")
    assert texts[15].endswith(f"MPJPE {FAR[5] / SIZE:.4f}, sample 5 s/5")
    truth = square_sample(PEOPLE[9], SIZE).pose
    area = METRICS.oks_area_factor * np.prod(np.ptp(truth[:, :2], axis=0))
    similarity = np.exp(-(NEAR[9] ** 2) / ((2 * SIGMAS) ** 2 * 2 * area)).mean()
    assert texts[5].startswith(f"OKS {similarity:.4f}, ")
    zero = (np.linalg.norm(square_sample(PEOPLE[6], SIZE).pose[:, :2] / SIZE, axis=1)).mean()
    assert f"MPJPE {zero:.4f}, sample 6 s/6" in texts[12]
    similarities = [float(text.split()[1].strip(",")) for text in texts if text.startswith("OKS")]
    assert similarities[8] == 1.0, "what came out as asked for"
    assert similarities[:4] == sorted(similarities[:4], reverse=True)
    assert all(0 <= value <= 1 for value in similarities)
    for folder in systems:
        assert load_image((folder / "extremes.png").read_bytes()).shape[1] == 6 * 260 + 4


def test_the_pose_found_lies_over_the_dimmed_picture(run):
    figure = run[3].figures["extremes"][0]
    labels, pictures = zip(*figure["pictures"], strict=True)
    assert labels == tuple(f"{what} of s/0" for what in ("photograph", "pose asked for", "picture, pose found"))
    photograph, asked, found = pictures
    assert has_colour(photograph, PEOPLE[0].image[0, 0])
    assert has_colour(asked, (0, 0, 0))
    ground = np.array(colour("near", 0)) * 0.4
    assert has_colour(found[:20, :20], ground)
    drawn, changed = asked.max(axis=-1) > 120, np.abs(found - ground).max(axis=-1) > 60
    assert (drawn & changed).sum() > 0.8 * drawn.sum()
    nobody, far = (run[3].figures["extremes"][place]["pictures"][2][1] for place in (12, 14))
    assert np.abs(nobody - np.array(colour("far", 6)) * 0.4).max() < 10
    asked = run[3].figures["extremes"][14]["pictures"][1][1].max(axis=-1) > 120
    changed = np.abs(far - np.array(colour("far", 8)) * 0.4).max(axis=-1) > 60
    beside = np.roll(asked, round(FAR[8] * 256 / SIZE), axis=1)
    assert (beside & changed).sum() > 1.5 * (asked & changed).sum()


def test_systems_stand_side_by_side(run):
    folder, _, _, page = run
    figures = page.figures["side-by-side"]
    assert len(figures) == 8
    for number, figure in enumerate(figures):
        assert "a person waves" in figure["text"]
        labels = [label for label, _ in figure["pictures"]]
        assert labels == [f"{what} of s/{number}" for what in ("photograph", "pose asked for", "near", "far (uniform)")]
        photograph, _, near, far = (picture for _, picture in figure["pictures"])
        assert has_colour(photograph, PEOPLE[number].image[0, 0])
        assert has_colour(near, colour("near", number))
        assert has_colour(far, colour("far", number))
    grid = load_image((folder / "side_by_side.png").read_bytes())
    assert grid.shape == (24 + 8 * 260, 4 * 260 + 4, 3)
    assert grid[24 + 260 + 100, 4 + 2 * 260 + 100].tolist() == list(colour("near", 1))


def test_how_it_was_made_names_every_key_and_the_command(run):
    text = run[3].texts["made"]
    report = json.loads((run[1][1] / "metrics.json").read_text())
    for words in ("metrics.oks_area_factor", "preset", "uniform", report["provenance"]["command"], "versions.torch"):
        assert words in text
    assert len([tag for tag, _ in run[3].tags if tag == "details"]) == 3


def test_nothing_in_a_name_or_a_text_becomes_markup(tmp_path):
    folder = tmp_path / """<img src=x onerror='1'> "run" """.strip()
    folder.mkdir()
    people = [person(number, HOSTILE, f"{HOSTILE} {number % 2}") for number in range(4)]
    data = shards(folder, people)
    systems = [system(folder, name, data, NEAR[:4], people, fact=[HOSTILE]) for name in (HOSTILE, "other")]
    report = json.loads((systems[1] / "metrics.json").read_text())
    report["dap"], report["skipped"]["dap"], report["provenance"]["command"] = None, HOSTILE, HOSTILE
    (systems[1] / "metrics.json").write_text(json.dumps(report))
    page = Page(write_page(folder, systems, data))
    assert [tag for tag, _ in page.tags].count("style") == 1
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert folder.name in page.text
    assert page.table("numbers")[1][0] == HOSTILE
    assert HOSTILE in [attrs.get("title") for _, attrs in page.cells]
    assert f"{HOSTILE} 1" in [row[0] for row in page.table("gestures")]
    assert page.figures["side-by-side"][0]["text"].startswith(HOSTILE)
    assert page.figures["side-by-side"][0]["pictures"][2][0] == f"{HOSTILE} of s/0"
    assert page.texts["made"].count(HOSTILE) >= 4


def test_a_system_whose_pictures_were_not_looked_at(tmp_path):
    data = shards(tmp_path)
    folder = system(tmp_path, "blind", data, None)
    page = Page(write_page(tmp_path, [folder], data))
    assert "gestures" not in page.tables
    assert "No poses were looked for" in page.texts["gestures"]
    assert "extremes" not in page.figures
    assert len(page.figures["side-by-side"]) == 8
    assert not (folder / "extremes.png").exists()


def test_pictures_in_which_nobody_is_found_are_all_the_worst(tmp_path):
    data = shards(tmp_path)
    page = Page(write_page(tmp_path, [system(tmp_path, "noise", data, [None] * COUNT)], data))
    assert "No pose was found" in page.texts["gestures"]
    assert all(figure["text"].startswith("nobody found") for figure in page.figures["extremes"])


def test_one_sample_of_one_system(tmp_path):
    data = shards(tmp_path, PEOPLE[:1])
    page = Page(write_page(tmp_path, [system(tmp_path, "alone", data, [2.0], PEOPLE[:1])], data))
    assert "1 system on 1 sample of" in page.text
    assert "Fewer than two gestures" in page.texts["gestures"]
    assert len(page.figures["extremes"]) == len(page.figures["side-by-side"]) == 1
    assert not any(attrs.get("class") == "best" for _, attrs in page.cells)


def test_one_system_has_a_row_for_each_gesture(tmp_path):
    data = shards(tmp_path)
    page = Page(write_page(tmp_path, [system(tmp_path, "alone", data)], data))
    head, *rows = page.table("gestures")
    assert head[:2] == ["gesture", "n"]
    assert [row[:2] for row in rows] == [["not known", "3"], ["fist", "4"], ["palm", "4"]]
    assert {len(row) for row in (head, *rows)} == {7}


def test_poses_that_were_found_in_photographs_are_called_so(tmp_path):
    data = shards(tmp_path, PEOPLE[:2])
    folder = system(
        tmp_path, "again", data, NEAR[:2], PEOPLE[:2], metrics=vars(replace(METRICS, ground_truth="redetected"))
    )
    page = Page(write_page(tmp_path, [folder], data))
    assert page.figures["side-by-side"][0]["pictures"][1][0] == "pose found in the photograph of s/0"


def test_samples_without_a_pose_are_neither_best_nor_worst():
    rows = rows_of(PEOPLE, FAR)
    rows[2] = replace(rows[2], truth=NOBODY)
    best, worst = extremes(rows, 1.0, SIZE)
    assert 2 not in [one.row.number for one in (*best, *worst)]
    assert [len(best), len(worst)] == [4, 4]


@pytest.mark.parametrize("count", range(1, 10))
def test_no_sample_is_both_best_and_worst(count):
    best, worst = extremes(rows_of(PEOPLE[:count], [0.0] * count), 1.0, SIZE)
    numbers = [one.row.number for one in (*best, *worst)]
    assert numbers == list(range(min(count, 8)))
    assert len(best) - len(worst) in (0, 1)


@pytest.fixture
def finished(tmp_path):
    data = shards(tmp_path)
    return data, system(tmp_path, "a", data), system(tmp_path, "b", data)


def spoil_rows(folder):
    (folder / "rows" / "000001.jsonl").write_text("{}\n")


def lose_rows(folder):
    (folder / "rows" / "000001.jsonl").unlink()


def lose_report(folder):
    (folder / "metrics.json").unlink()


def change_picture(folder):
    (folder / "samples" / "000003.png").write_bytes(encode_png(np.zeros((SIZE, SIZE, 3), np.uint8)))


def other_samples(folder):
    path = folder / "rows" / "000002.jsonl"
    path.write_text(path.read_text().replace('"number": 10', '"number": 11'))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lose_report, r"metrics\.json is no report of an evaluation"),
        (spoil_rows, r"000001\.jsonl: missing or unknown"),
        (lose_rows, r"rows holds 7 samples, .*metrics\.json tells of 11"),
        (change_picture, r"000003\.png is not the picture that was evaluated"),
        (other_samples, "hold rows of different samples"),
    ],
)
def test_a_folder_that_is_not_what_was_written_is_named(spoil, message, finished, tmp_path):
    data, first, second = finished
    spoil(second)
    with pytest.raises(DataError, match=message) as caught:
        write_page(tmp_path, [first, second], data)
    assert caught.value.hint
    assert not (tmp_path / "index.html").exists()


@pytest.mark.parametrize("metrics", [None, {"unknown": 1}, 3])
def test_a_report_that_does_not_say_how_it_compared_is_named(metrics, finished, tmp_path):
    data, folder, _ = finished
    report = json.loads((folder / "metrics.json").read_text())
    report["protocol"]["metrics"] = metrics
    (folder / "metrics.json").write_text(json.dumps(report))
    with pytest.raises(DataError, match=r"metrics\.json: its protocol does not say how poses were compared"):
        write_page(tmp_path, [folder], data)


def test_other_data_than_was_evaluated_is_named(finished, tmp_path):
    _, folder, _ = finished
    for people in (PEOPLE[1:], PEOPLE[:1]):
        data = shards(tmp_path / str(len(people)), people)
        with pytest.raises(DataError, match=r"sample \d+ of .* is .*, not s/"):
            write_page(tmp_path, [folder], data)


def test_every_number_has_a_heading_and_a_meaning():
    assert set(LABELS) == set(MEANINGS) == {*MAIN_KEYS, *BESIDE}


def test_date_and_versions_of_several_evaluations():
    def made_by(**facts):
        return {"provenance": facts}

    first = made_by(h2d="1.0", commit="0123456789abcdef+", time="2026-01-31T09:05:07+00:00")
    second = made_by(h2d="1.1", commit=None, time="2026-02-01T00:00:00+00:00")
    assert date_of([second, first, {}]) == "2026-02-01 00:00 UTC"
    assert versions_of([first, first, second]) == ["h2d 1.0, commit 0123456789 with uncommitted changes", "h2d 1.1"]
    assert date_of([{}]) == ""
    assert versions_of([{}]) == ["h2d of an unknown version"]
