from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import constants

from h2d.errors import SetupError
from h2d.weights import WEIGHTS, HubModel, WeightFile, sam_checkpoint, weight_file, weights_folder

FILES = [weights for weights in WEIGHTS if isinstance(weights, WeightFile)]
MODELS = [weights for weights in WEIGHTS if isinstance(weights, HubModel)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path))
    return tmp_path


def put(folder: Path, name: str) -> Path:
    """A file without content that has the length of the real one."""
    file = next(weights for weights in FILES if weights.name == name)
    with open(folder / file.file, "wb") as sparse:
        sparse.truncate(file.size)
    return folder / file.file


def test_the_table_is_sound() -> None:
    assert len({weights.name for weights in WEIGHTS}) == len(WEIGHTS)
    for file in FILES:
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.url.startswith("https://")
        assert file.url.endswith(f"/{file.file}")
    inception = next(file for file in FILES if file.name == "inception")
    assert inception.file == f"weights-inception-2015-12-05-{inception.sha256[:8]}.pth", "its name holds its sum"
    for model in MODELS:
        assert model.repository.count("/") == 1


def test_files_are_looked_for_where_the_environment_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_folder() == folder
    monkeypatch.delenv("H2D_WEIGHTS")
    assert weights_folder() == Path.home() / ".cache" / "h2d"


def test_a_file_counts_when_it_is_whole(folder: Path) -> None:
    with pytest.raises(SetupError, match=r"sam_vit_b_01ec64\.pth does not exist") as caught:
        weight_file("sam-vit-b")
    assert "h2d doctor --fetch sam-vit-b" in caught.value.hint
    path = put(folder, "sam-vit-b")
    assert weight_file("sam-vit-b") == path
    path.write_bytes(b"half")
    with pytest.raises(SetupError, match="not complete"):
        weight_file("sam-vit-b")


def test_sam_is_found_without_being_named(folder: Path) -> None:
    with pytest.raises(SetupError, match="sam_vit_h_4b8939"):
        sam_checkpoint(None, "auto")
    large, base = put(folder, "sam-vit-h"), put(folder, "sam-vit-b")
    assert sam_checkpoint(None, "auto") == large
    assert sam_checkpoint(None, "vit_b") == base
    own = folder / "own.pth"
    with pytest.raises(SetupError, match=r"sam_checkpoint=.*own\.pth does not exist"):
        sam_checkpoint(own, "vit_b")
    own.write_bytes(b"")
    assert sam_checkpoint(own, "vit_b") == own


def test_a_model_of_the_hub_counts_when_all_its_weights_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = next(model for model in MODELS if model.name == "sd15")
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = model.place / "snapshots" / commit
    assert model.find() is None
    for number, file in enumerate(model.weights):
        assert model.find() is None, number
        (snapshot / file).parent.mkdir(parents=True)
        (snapshot / file).touch()
        (model.place / "refs").mkdir(exist_ok=True)
        (model.place / "refs" / "main").write_text(commit)
    assert model.find() == snapshot
