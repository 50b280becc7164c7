import numpy as np
import torch

from h2d.metrics.suite import MAIN_KEYS, Suite


def test_nothing_measured_is_none_and_the_order_is_fixed():
    values = Suite().compute()
    assert tuple(values)[: len(MAIN_KEYS)] == MAIN_KEYS
    assert values.pop("n") == 0
    assert set(values.values()) == {None}


def test_perfect_poses():
    suite = Suite()
    pose = np.random.default_rng(0).uniform(1, 99, (133, 3)).astype(np.float32)
    pose[:, 2] = 2
    suite.add_images(2)
    suite.add_poses([], [], [], [], 100)
    suite.add_poses([pose, pose], [0.5, 0.6], [pose, pose], [0, 1], 100)
    suite.add_masks(torch.ones(1))
    values = suite.compute()
    assert values["n"] == 2
    assert values["dap"] == values["dar_hands_strict"] == values["detection_rate"] == values["mask_iou"] == 1.0
    assert values["mpjpe"] == values["mpjpe_hands_matched"] == 0.0
    assert values["fid"] is None


def test_a_pose_set_without_hands_leaves_the_hand_metrics_open():
    suite = Suite()
    pose = np.zeros((133, 3), np.float32)
    pose[:3] = (10, 20, 2), (30, 40, 2), (50, 50, 2)
    suite.add_poses([pose], [1.0], [pose], [0], 100)
    values = suite.compute()
    assert values["dap"] == 1.0
    assert values["dap_hands"] is values["mpjpe_hands"] is values["detection_rate_hands"] is None


def test_borders_are_told_where_pictures_were_compared():
    suite = Suite()
    assert "border_contrast" not in suite.compute()
    image, hands = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    hands[20:40, 20:40] = 1
    suite.add_borders([image], [np.where(hands[..., None] > 0, np.uint8(90), image)], [hands])
    assert suite.compute()["border_contrast"] == 0
    assert suite.compute()["border_contrast_real"] > 10
