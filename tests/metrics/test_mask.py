import pytest
import torch

from h2d.metrics.mask import MaskIoU, mask_ious


def test_iou_by_hand():
    predicted, truth = torch.zeros(2, 3, 1, 4, 4)
    predicted[0, 0, :2] = 0.6  # 8 pixels
    truth[0, 0, 1:] = 1  # 12 pixels, 4 shared
    predicted[1, 0, 0] = 0.4  # below the threshold: empty against empty
    truth[2, 0, 0] = 1
    metric = MaskIoU()
    metric.update(mask_ious(predicted, truth))
    metric.update(torch.zeros(0))
    assert float(metric.compute()) == pytest.approx((4 / 16 + 1 + 0) / 3)
