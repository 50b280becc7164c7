"""Downloads from a server on this machine that is whole, slow to the end, wrong, or not there."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from h2d import downloads, weights
from h2d.cli import main
from h2d.downloads import fetch, fetch_file, fetch_model
from h2d.errors import ConfigError, SetupError
from h2d.weights import HubModel, WeightFile

CONTENT = bytes(range(256)) * 5000


@dataclass
class Server:
    """What it sends, how much of it before it breaks off, and which ranges it was asked for."""

    url: str = ""
    content: bytes = CONTENT
    breaks_after: int | None = None
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.headers["Range"])
            if self.path != "/file.pth":
                self.send_error(404)
                return
            start = int(self.headers["Range"][6:-1]) if state.ranges and self.headers["Range"] else 0
            if start and start >= len(state.content):
                self.send_error(416)
                return
            rest = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: state.breaks_after])

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        state.url = f"http://127.0.0.1:{running.server_port}"
        yield state
        running.shutdown()
        thread.join()


@pytest.fixture
def file(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightFile:
    monkeypatch.setenv("H2D_WEIGHTS", str(tmp_path / "weights"))
    known = WeightFile(
        "a-file", "file.pth", f"{server.url}/file.pth", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "h2d train"
    )
    monkeypatch.setattr(downloads, "WEIGHTS", (known,))
    monkeypatch.setattr(weights, "WEIGHTS", (known,))
    return known


def left(file: WeightFile) -> list[str]:
    return sorted(path.name for path in file.place.parent.iterdir())


def test_a_file_arrives_whole_and_only_once(
    server: Server, file: WeightFile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert file.find() is None
    assert main(["doctor", "--fetch", "a-file"]) == 0
    assert capsys.readouterr().out == f"{file.place}\n"
    assert file.place.read_bytes() == CONTENT
    assert left(file) == ["file.pth"]
    assert fetch() == [file.place]
    assert server.asked == [None]


def test_a_download_that_broke_off_goes_on(server: Server, file: WeightFile) -> None:
    server.breaks_after = 300_000
    with pytest.raises(SetupError, match="the connection broke off"):
        fetch_file(file)
    assert left(file) == [".file.pth.part"]
    assert file.find() is None
    with pytest.raises(SetupError, match="the connection broke off"):
        fetch_file(file)
    server.breaks_after = None
    assert fetch_file(file).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]
    assert left(file) == ["file.pth"]


def test_a_server_that_cannot_go_on_starts_again(server: Server, file: WeightFile) -> None:
    server.breaks_after, server.ranges = 300_000, False
    with pytest.raises(SetupError):
        fetch_file(file)
    server.breaks_after = None
    assert fetch_file(file).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_another_file_is_refused(content: bytes, server: Server, file: WeightFile) -> None:
    server.content = content
    with pytest.raises(SetupError, match=r"is not the file that belongs at .*: another SHA-256"):
        fetch_file(file)
    assert left(file) == []


def test_a_shorter_file_is_refused_in_the_end(server: Server, file: WeightFile) -> None:
    server.content = CONTENT[:1000]
    with pytest.raises(SetupError, match="broke off"):
        fetch_file(file)
    with pytest.raises(SetupError, match="416"):
        fetch_file(file)
    assert left(file) == []


def test_a_file_that_is_not_there(file: WeightFile) -> None:
    gone = replace(file, url=file.url.replace("file.pth", "other.pth"))
    with pytest.raises(SetupError, match=rf"cannot fetch {gone.url} as {gone.place}: 404"):
        fetch_file(gone)
    assert left(file) == []


def test_without_internet_every_file_is_named(
    file: WeightFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
    away = [replace(file, name=name, file=f"{name}.pth", url=f"{nobody}/{name}") for name in ("one", "two")]
    optional = replace(away[0], name="three", file="three.pth", optional=True)
    monkeypatch.setattr(downloads, "WEIGHTS", (*away, optional))
    assert main(["doctor", "--fetch"]) == 2
    error = capsys.readouterr().err
    for lost in away:
        assert f"error: cannot fetch {lost.url} as {lost.place}: " in error
    assert "Connection refused" in error
    assert "hint: without internet, bring the files" in error
    assert "three" not in error
    assert left(file) == []


def test_there_has_to_be_room(file: WeightFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(SetupError, match="no room for"):
        fetch_file(file)


def test_names(file: WeightFile) -> None:
    with pytest.raises(ConfigError, match="no weights 'a-fiel'") as caught:
        fetch(["a-fiel"])
    assert caught.value.hint == "did you mean a-file?"


MODEL = HubModel("m", "owner/model", ("unet/a.safetensors",), ("*.json",), 10, "h2d train")


def test_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    weights_file = MODEL.place / "snapshots" / commit / "unet" / "a.safetensors"
    asked = []

    def download(repository: str, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        weights_file.parent.mkdir(parents=True)
        weights_file.touch()
        (MODEL.place / "refs").mkdir()
        (MODEL.place / "refs" / "main").write_text(commit)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetch_model(MODEL) == MODEL.place / "snapshots" / commit
    assert asked == [("owner/model", ["unet/a.safetensors", "*.json"])]


def test_a_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def offline(repository: str, allow_patterns: list[str]) -> str:
        raise RuntimeError("[Errno -2] Name or service\nnot known")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(SetupError, match=r"cannot fetch https://huggingface.co/owner/model into .*: \[Errno -2\] Name"):
        fetch_model(MODEL)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repository, allow_patterns: str(tmp_path))
    with pytest.raises(SetupError, match=r"unet/a\.safetensors did not come"):
        fetch_model(MODEL)
