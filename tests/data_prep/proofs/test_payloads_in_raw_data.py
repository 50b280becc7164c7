"""Raw data and presets that hold code: none of it runs while they are prepared."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.__main__ import main

pytestmark = pytest.mark.usefixtures("sentinel")


@pytest.fixture(scope="session")
def object_array(payload: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([payload], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def test_a_preset_with_code(tmp_path: Path, capsys: Any) -> None:
    tag = "!!python/object/apply:os.system"
    (tmp_path / "preset.yaml").write_text(f'folder:\n  limit: {tag} ["touch it_ran"]\n')
    assert main(["all", "folder", f"root={tmp_path}", f"out={tmp_path}", f"preset={tmp_path}/preset.yaml"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/preset.yaml:2: ")


def test_labels_with_code(people: Path, payload: object, object_array: bytes, tmp_path: Path, capsys: Any) -> None:
    """The exact pose of a person is an array of objects, another one's photograph is a pickle."""
    root, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(people, root)
    first, second = sorted(root.rglob("*.pose.npy"))[:2]
    first.write_bytes(object_array)
    picture = next(root.rglob(f"{second.name.removesuffix('.pose.npy')}.jpg"))
    picture.write_bytes(pickle.dumps(payload))
    words = ["all", "synthetic", f"root={root}", f"out={out}", "jobs=1", "keypoints=exact", "min_mask_pixels=0"]
    assert main(words) == 0
    rows = [json.loads(line) for path in out.glob("*/rejected.jsonl") for line in path.read_text().splitlines()]
    assert len(rows) == 2
    assert not [row for row in rows if row["reason"].startswith("unexpected")]
    assert "Traceback" not in capsys.readouterr().err


def test_poses_of_laion_human(people: Path, object_array: bytes, tmp_path: Path) -> None:
    picture = sorted(people.glob("*/*.jpg"))[0]
    for folder, content in (("images/00000/0.jpg", picture.read_bytes()), ("pose/00000/0.npz", object_array)):
        (tmp_path / folder).parent.mkdir(parents=True)
        (tmp_path / folder).write_bytes(content)
    entry = {"img_path": "images/00000/0.jpg", "pose_path": "pose/00000/0.npz", "prompt": "$(touch it_ran)"}
    (tmp_path / "mapping_file_training.json").write_text(json.dumps({"0": entry}))
    words = ["laion_human", f"root={tmp_path}", f"out={tmp_path / 'out'}", "jobs=1"]
    assert [main([stage, *words]) for stage in ("index", "keypoints", "masks", "captions")] == [0, 0, 0, 0]
