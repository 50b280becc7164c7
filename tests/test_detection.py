import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from data_prep.synthetic import render_person
from h2d import detection
from h2d.annotators.pose import HolisticPose, PoseResult
from h2d.detection import PoseDetector, detect_enlarged, hands_enlarged
from h2d.errors import SetupError


class Corner:
    """Finds its first keypoint at the lower right corner of whatever it is shown, and keeps the sizes it saw."""

    def __init__(self):
        self.seen = []

    def detect(self, image):
        self.seen.append(image.shape)
        pose = np.zeros((133, 3), np.float32)
        pose[0] = image.shape[1], image.shape[0], 2
        return PoseResult(pose, 1.0, frozenset({"body"}))

    def hands(self, image):
        self.seen.append(image.shape)
        return [np.full((21, 3), (image.shape[1], image.shape[0], -image.shape[1] / 4), np.float32)]


@pytest.mark.parametrize(
    ("shape", "shown"), [((128, 128), (512, 512)), ((600, 512), (600, 512)), ((64, 128), (512, 1024))]
)
def test_small_images_are_enlarged_and_poses_brought_back(monkeypatch, shape, shown):
    corner = Corner()
    monkeypatch.setattr(detection, "_holistic", corner)
    result = detect_enlarged(np.zeros((*shape, 3), np.uint8), 512)
    assert corner.seen == [(*shown, 3)]
    assert result.pose[0].tolist() == [shape[1], shape[0], 2]
    (hand,) = hands_enlarged(np.zeros((*shape, 3), np.uint8), 512)
    assert corner.seen == [(*shown, 3)] * 2
    assert hand.dtype == np.float32
    assert hand[5].tolist() == [shape[1], shape[0], -shape[1] / 4]


def test_sides_that_do_not_grow_alike_are_brought_back_each(monkeypatch):
    monkeypatch.setattr(detection, "_holistic", Corner())
    odd = np.zeros((100, 199, 3), np.uint8)  # 512 x 1018.88
    (hand,) = hands_enlarged(odd, 512)
    np.testing.assert_allclose(hand[5], (199, 100, -199 / 4), rtol=1e-6)
    np.testing.assert_allclose(detect_enlarged(odd, 512).pose[0], (199, 100, 2), rtol=1e-6)


def test_detection_happens_in_another_process_in_order(monkeypatch):
    here = Corner()
    monkeypatch.setattr(detection, "_holistic", here)
    with PoseDetector() as detector:
        results = detector([np.zeros((64, 64, 3), np.uint8)] * 2)
        assert detector.hands([np.zeros((64, 64, 3), np.uint8)] * 2) == [[], []]
    assert [result.score for result in results] == [0.0, 0.0]
    assert here.seen == []


def test_hands_keep_the_order_of_their_images():
    picture = render_person(0, 1, 512, supersampling=1).image
    with PoseDetector() as detector:
        nobody, found = detector.hands([np.zeros((64, 64, 3), np.uint8), picture])
    with HolisticPose() as finder:
        expected = finder.hands(picture)
    assert nobody == []
    assert len(found) == 1
    np.testing.assert_array_equal(found, expected)


@pytest.fixture
def waiting(monkeypatch):
    """A detector in a thread, whose poses come once the event is set."""
    ready = threading.Event()

    class Waiting(Corner):
        def detect(self, image):
            assert ready.wait(60)
            if not image.any():
                raise ValueError("black")
            return super().detect(image)

    monkeypatch.setattr(detection, "_holistic", Waiting())
    with PoseDetector() as detector, ThreadPoolExecutor(1) as detector._pool:
        yield detector, ready


def test_submit_waits_only_when_it_is_asked(waiting):
    detector, ready = waiting
    waits = [detector.submit([np.ones((512, width, 3), np.uint8)]) for width in (600, 700)]
    ready.set()
    for _ in range(2):
        assert [wait()[0].pose[0, 0] for wait in waits] == [600, 700]


def test_an_error_comes_where_it_is_waited_for(waiting):
    detector, ready = waiting
    bad = detector.submit([np.zeros((512, 512, 3), np.uint8)])
    ready.set()
    with pytest.raises(ValueError, match="black"):
        bad()
    assert len(detector([np.ones((512, 512, 3), np.uint8)])) == 1


def test_a_process_that_dies_is_named():
    image = np.zeros((64, 64, 3), np.uint8)
    with PoseDetector() as detector:
        wait = detector.submit([image])
        for process in detector._pool._processes.values():
            process.kill()
        for ask in (wait, wait, lambda: detector.submit([image]), lambda: detector.hands([image])):
            with pytest.raises(SetupError, match="MediaPipe's process died"):
                ask()


FORGETFUL = """
if __name__ == "__main__":
    import multiprocessing
    import numpy as np
    from h2d.detection import PoseDetector
    detector = PoseDetector()
    detector.itself = detector  # nothing ends it before the program does
    assert detector.hands([np.zeros((64, 64, 3), np.uint8)]) == [[]]
    print(multiprocessing.active_children()[0].pid)
"""


def test_a_program_that_closes_nothing_ends_and_its_process_too(tmp_path):
    (tmp_path / "program.py").write_text(FORGETFUL)
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_small_picture_of_a_real_person(photographs):
    picture = next((photographs / "hagrid" / "images").glob("four/*.jpg"))
    small = Image.open(picture).convert("RGB").resize((192, 256))
    with PoseDetector() as detector:
        (result,) = detector([np.array(small)])
    assert {"body", "face"} < result.found
    seen = result.pose[result.pose[:, 2] > 0, :2]
    assert (seen <= (192, 256)).all()
    assert seen.max() > 100
