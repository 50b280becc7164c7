"""The data sets of hands from their files to shards, through the command that a user types."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.__main__ import main
from h2d.data.check import check
from h2d.data.schema import Sample
from h2d.data.shards import iter_samples, read_manifest
from h2d.skeleton import HAND_LABELS, HAND_SLICES, HANDS


def prepare(dataset: str, root: Path, out: Path, *words: str) -> dict[str, Sample]:
    assert main(["all", dataset, f"root={root}", f"out={out}", "jobs=1", *words]) == 0
    assert check(out / "shards") == []
    splits = read_manifest(out / "shards").counts
    return {sample.key: sample for split in splits for sample in iter_samples(out / "shards", split)}


def rejected(out: Path, stage: str) -> list[str]:
    return [json.loads(line)["reason"] for line in (out / stage / "rejected.jsonl").read_text().splitlines()]


def test_interhand(
    mini_interhand: Any,
    without_unseen_hands: Callable[[np.ndarray], np.ndarray],
    train_one_step: Callable[[Path, str], None],
    tmp_path: Path,
) -> None:
    captions, split = tmp_path / "captions.json", min(mini_interhand.data)
    captions.write_text(json.dumps({f"{split}/Capture0/0266_dh_pray": "the hands of a woman, brown skin"}))
    found = prepare(
        "interhand", mini_interhand.write(), tmp_path / "out", "masks=grabcut", f"sequence_captions={captions}"
    )
    assert sorted(reason.partition(":")[0] for reason in rejected(tmp_path / "out", "index")) == [
        "grey camera",
        "kind of hand not valid",
        "no image file",
        "no valid joints",
    ]
    assert rejected(tmp_path / "out", "keypoints") == ["black frame: brightness 0.0 around the hands, below 10"]
    assert len(found) >= 5
    for key, sample in found.items():
        assert np.abs(sample.pose - without_unseen_hands(mini_interhand.poses[key])).max() < 0.001
        assert sample.meta["made_by"]["pose"] == "exact"
        assert sample.meta["subject"] == f"{sample.meta['split']}-5"
        own = sample.meta["split"] == split
        assert sample.caption == "the hands of a woman, brown skin" if own else "pray" in sample.caption
        assert sample.meta["made_by"]["caption"] == ("interhand" if own else "template-1")
    train_one_step(tmp_path / "out" / "shards", "hand")


def test_reinterhand(mini_reinterhand: Any, train_one_step: Callable[[Path, str], None], tmp_path: Path) -> None:
    found = prepare("reinterhand", mini_reinterhand.root, tmp_path / "out")
    assert len(found) >= 5
    assert "test" in {sample.meta["split"] for sample in found.values()}
    for key, sample in found.items():
        truth = mini_reinterhand.poses[key]
        labelled = truth[:, 2] > 0
        labelled[: HANDS.start] = False
        assert np.array_equal(sample.pose[:, 2] > 0, labelled)
        assert np.abs(sample.pose - truth)[labelled, :2].max() < 0.001
        assert sample.meta["made_by"] | {"caption": ""} == {"pose": "exact", "hands": "exact", "caption": ""}
        seen = [label for side, label in HAND_LABELS.items() if labelled[HAND_SLICES[side]].any()]
        hands = np.isin(mini_reinterhand.hands[key], seen)
        assert (sample.hands > 0)[hands].mean() > 0.99
    train_one_step(tmp_path / "out" / "shards", "hand")


def test_reinterhand_without_its_masks(mini_reinterhand: Any, tmp_path: Path) -> None:
    found = prepare("reinterhand", mini_reinterhand.root, tmp_path / "out", "mask_coding=none", "limit=3")
    assert {sample.meta["made_by"]["hands"] for sample in found.values()} == {"grabcut-1"}
