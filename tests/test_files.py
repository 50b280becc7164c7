import hashlib
from pathlib import Path

import pytest

from h2d.errors import SetupError
from h2d.files import replacing, sha256_of, write_atomic


def test_a_finished_block_leaves_only_the_file(tmp_path):
    target = tmp_path / "deep" / "file.bin"
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]
    assert sha256_of(target) == hashlib.sha256(b"new").hexdigest()


def test_a_failed_block_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "file.bin"
    write_atomic(target, b"old")

    def fail_half_way() -> None:
        with replacing(target) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("place", ["/proc/none/a", "{file}/a", "{folder}"])
def test_what_cannot_be_written_is_named(place, tmp_path):
    (tmp_path / "file").touch()
    target = Path(place.format(file=tmp_path / "file", folder=tmp_path))
    with pytest.raises(SetupError, match=f"cannot write.*{target.parent.name}"):
        write_atomic(target, b"new")
