import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from h2d.errors import SetupError
from h2d.files import holding, leftovers, replacing, sha256_of, write_atomic, write_once


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


def test_of_several_writers_the_first_one_wins(tmp_path):
    assert write_once(tmp_path / "file", b"first") == b"first"
    assert write_once(tmp_path / "file", b"second") == b"first"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def refuse(*names: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert write_once(tmp_path / "file", b"first") == b"first"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_two_writers_never_share_a_temporary_file(tmp_path):
    with replacing(tmp_path / "file") as one, replacing(tmp_path / "file") as other:
        assert one != other
        one.write_bytes(b"1")
        other.write_bytes(b"2")
        assert sorted(leftovers(tmp_path)) == sorted([one, other])
    assert (tmp_path / "file").read_bytes() == b"1"
    assert not list(leftovers(tmp_path))


def test_a_folder_is_held_until_its_process_ends(tmp_path):
    code = "import sys, time; from pathlib import Path; from h2d.files import holding\n"
    code += "with holding(Path(sys.argv[1]), ''): print(1, flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    with (
        pytest.raises(SetupError, match=f"another training is at work in {tmp_path}"),
        holding(tmp_path, "another training"),
    ):
        pass
    other.kill()
    other.communicate()
    with holding(tmp_path, "another training") as held:
        assert held
