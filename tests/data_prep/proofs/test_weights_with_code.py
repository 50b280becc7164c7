"""Weights that hold code: the annotators refuse them, and none of it runs."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.__main__ import main

pytestmark = pytest.mark.usefixtures("sentinel")


@pytest.fixture
def begun(whole: Any, tmp_path: Path) -> Path:
    """A folder of which the keypoints are done."""
    out = tmp_path / "out"
    for name in ("index", "keypoints"):
        shutil.copytree(whole.out / name, out / name)
    shutil.copy(whole.out / "index.jsonl", out)
    return out


@pytest.fixture(scope="session")
def weights(payload: object) -> dict[str, bytes]:
    """A payload as a checkpoint of PyTorch, as one of its older form, and as it is."""
    buffers = io.BytesIO(), io.BytesIO()
    for new, buffer in enumerate(buffers):
        torch.save({"weights": payload}, buffer, _use_new_zipfile_serialization=bool(new))
    return {"old": buffers[0].getvalue(), "new": buffers[1].getvalue(), "pickle": pickle.dumps(payload, protocol=2)}


@pytest.mark.parametrize("kind", ["old", "new", "pickle"])
def test_a_checkpoint_of_sam(
    kind: str, weights: dict[str, bytes], whole: Any, begun: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setitem(__import__("segment_anything").sam_model_registry, "vit_b", torch.nn.Identity)
    path = tmp_path / "sam_vit_b_evil.pth"
    path.write_bytes(weights[kind])
    words = [*whole.words[1:], f"out={begun}", "jobs=1", "masks=sam", f"sam_checkpoint={path}", "device=cpu"]
    assert main(["masks", *words]) == 2
    judge(capsys.readouterr().err, str(path))


def judge(errors: str, name: str) -> None:
    assert errors.startswith("error: ")
    assert name in errors.splitlines()[0]
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def tiny_llava(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LLaVA with its own classes and few random weights, as the tests of the annotators make it."""
    spec = importlib.util.spec_from_file_location("annotators", repository / "tests" / "annotators" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("llava")
    module.save_tiny_llava(folder)
    return folder


def with_pickled_weights(folder: Path, weights: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(weights)


def with_own_code(folder: Path, weights: bytes) -> None:
    """Every file that may name classes names those of a module that lies beside the weights."""
    classes = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoProcessor", "AutoTokenizer")
    (folder / "evil.py").write_text("open('it_ran', 'w')\n" + "".join(f"class {name}: pass\n" for name in classes))
    for path in folder.glob("*config.json"):
        content = json.loads(path.read_text())
        content |= {"auto_map": {name: f"evil.{name}" for name in classes}, "model_type": "evil"}
        content |= {name: "Evil" for name in ("processor_class", "tokenizer_class") if name in content}
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("spoil", [with_pickled_weights, with_own_code])
def test_a_folder_of_llava(
    spoil: Callable[[Path, bytes], None],
    weights: dict[str, bytes],
    tiny_llava: Path,
    whole: Any,
    begun: Path,
    tmp_path: Path,
    capsys: Any,
) -> None:
    shutil.copytree(whole.out / "masks", begun / "masks")
    shutil.copytree(tiny_llava, tmp_path / "llava")
    spoil(tmp_path / "llava", weights["new"])
    words = [*whole.words[1:], f"out={begun}", "jobs=1", "captions=llava", f"llava={tmp_path / 'llava'}", "device=cpu"]
    assert main(["captions", *words]) == 2
    judge(capsys.readouterr().err, str(tmp_path / "llava"))
