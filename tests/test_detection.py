import numpy as np
import pytest
from PIL import Image

from h2d import detection
from h2d.annotators.pose import PoseResult
from h2d.detection import PoseDetector, detect_enlarged


class Corner:
    """Finds its first keypoint at the lower right corner of whatever it is shown, and keeps the sizes it saw."""

    def __init__(self):
        self.seen = []

    def detect(self, image):
        self.seen.append(image.shape)
        pose = np.zeros((133, 3), np.float32)
        pose[0] = image.shape[1], image.shape[0], 2
        return PoseResult(pose, 1.0, frozenset({"body"}))


@pytest.mark.parametrize(
    ("shape", "shown"), [((128, 128), (512, 512)), ((600, 512), (600, 512)), ((64, 128), (512, 1024))]
)
def test_small_images_are_enlarged_and_poses_brought_back(monkeypatch, shape, shown):
    corner = Corner()
    monkeypatch.setattr(detection, "_holistic", corner)
    result = detect_enlarged(np.zeros((*shape, 3), np.uint8), 512)
    assert corner.seen == [(*shown, 3)]
    assert result.pose[0].tolist() == [shape[1], shape[0], 2]


def test_detection_happens_in_another_process_in_order(monkeypatch):
    here = Corner()
    monkeypatch.setattr(detection, "_holistic", here)
    with PoseDetector() as detector:
        results = detector([np.zeros((64, 64, 3), np.uint8)] * 2)
    assert [result.score for result in results] == [0.0, 0.0]
    assert here.seen == []


def test_a_small_picture_of_a_real_person(photographs):
    picture = next((photographs / "hagrid" / "images").glob("four/*.jpg"))
    small = Image.open(picture).convert("RGB").resize((192, 256))
    with PoseDetector() as detector:
        (result,) = detector([np.array(small)])
    assert {"body", "face"} < result.found
    seen = result.pose[result.pose[:, 2] > 0, :2]
    assert (seen <= (192, 256)).all()
    assert seen.max() > 100
