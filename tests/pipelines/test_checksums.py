import shutil
import subprocess

import pytest

from h2d.errors import CheckpointError
from h2d.pipelines.checksums import verify_checksums, write_checksums


@pytest.fixture
def folder(tmp_path):
    for name in ("a/x.safetensors", "b/y.safetensors"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(bytes(range(256)) * 8)
    (tmp_path / "config.json").write_text("{}")
    write_checksums(tmp_path)
    return tmp_path


def test_untouched_folder_passes_here_and_with_coreutils(folder):
    verify_checksums(folder)
    (folder / "README.md").write_text("a card may be changed")
    verify_checksums(folder)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--status", "-c", "SHA256SUMS"], cwd=folder, check=True)


def test_every_flipped_bit_is_refused(folder):
    file = folder / "b" / "y.safetensors"
    content = file.read_bytes()
    for bit in range(0, 8 * len(content), 97):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"y\.safetensors is not what was saved"):
            verify_checksums(folder)


def test_altered_added_and_unreadable_records_are_named(folder):
    (folder / "config.json").write_text('{"edited": true}')
    with pytest.raises(CheckpointError, match=r"config\.json is not what was saved"):
        verify_checksums(folder)
    verify_checksums(folder, (".safetensors",))
    (folder / "config.json").write_text("{}")
    (folder / "a" / "z.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"z\.safetensors was not there when the pipeline was saved"):
        verify_checksums(folder)
    for text in ("", "nonsense\n", "0" * 64 + "\n"):
        (folder / "SHA256SUMS").write_text(text)
        with pytest.raises(CheckpointError, match="SHA256SUMS is no list of checksums"):
            verify_checksums(folder)


def test_missing_file_is_named(folder):
    (folder / "a" / "x.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"x\.safetensors is missing"):
        verify_checksums(folder)


def test_a_folder_without_a_record_passes(tmp_path):
    verify_checksums(tmp_path)
