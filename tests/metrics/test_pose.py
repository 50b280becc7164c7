import contextlib
import io

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from h2d.metrics.pose import MPJPE, DetectionRate, KeypointAP, average_precision
from h2d.skeleton import HANDS, LEFT_HAND, RIGHT_HAND, SIGMAS

SHIFTS = [0, 2, 4, 6, 8, 10, 15, 20, None, 3]


def grid(count):
    i = np.arange(count)
    return np.stack([100 + 25.0 * (i % 12), 80 + 30.0 * (i // 12), np.full(count, 2.0)], 1)


def shifted(shifts, points):
    """Truth and found poses whose ``points`` form a grid, found some pixels to the right (None: nobody was found)."""
    truth, found = np.zeros((2, len(shifts), 133, 3))
    for number, shift in enumerate(shifts):
        truth[number, points] = grid(len(range(*points.indices(133))))
        if shift is not None:
            found[number] = truth[number]
            found[number, points, 0] += shift
    return torch.tensor(truth), torch.tensor(found)


def evaluate(truth, found, scores=None, **options):
    metric = KeypointAP(**options)
    scores = torch.ones(len(truth)) if scores is None else scores
    metric.update(found, scores, truth, torch.arange(len(truth)))
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize(
    ("points", "ap", "ap50", "ap75", "ar"),
    [(slice(0, 133), 0.488339, 0.673267, 0.460946, 0.52), (HANDS, 0.402640, 0.570957, 0.350935, 0.44)],
)
def test_worked_example(points, ap, ap50, ap75, ar):
    result = evaluate(*shifted(SHIFTS, points), points=points)
    assert result == pytest.approx({"ap": ap, "ap50": ap50, "ap75": ap75, "ar": ar}, abs=1e-6)


def test_worked_example_of_four():
    result = evaluate(*shifted([0, 2, 4, 6], slice(0, 133)))
    assert (result["ap"], result["ar"]) == pytest.approx((0.876238, 0.875), abs=1e-6)


def test_equal_scores_rank_by_id_and_dar_does_not_care():
    good_first = sorted(SHIFTS, key=lambda shift: (shift is None, shift or 0))
    assert evaluate(*shifted(good_first, slice(0, 133)))["ap"] == pytest.approx(0.521782, abs=1e-6)
    bad_first = evaluate(*shifted(good_first[::-1], slice(0, 133)))
    assert (bad_first["ap"], bad_first["ar"]) == pytest.approx((0.331243, 0.52), abs=1e-6)


def test_average_precision_by_hand():
    assert average_precision(np.array([True, False, True]), 2) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert average_precision(np.zeros(0, bool), 3) == 0.0


def random_poses(seed, count=40):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([rng.uniform(0, 512, (count, 133, 2)), rng.choice([0, 2], (count, 133, 1))], 2)
    scale = rng.uniform(0, 40, (count, 1, 1))
    found = truth.copy()
    found[..., :2] += rng.normal(size=(count, 133, 2)) * scale
    found[..., 2] = 2
    found[rng.random(count) < 0.15] = 0
    return truth, found, rng.choice([0.5, 0.8, 0.9], count)


def oracle(truth, found, scores, points):
    """The same numbers from pycocotools: the person's box gives the area."""
    images, annotations, results = [], [], []
    for number, (target, pose) in enumerate(zip(truth, found, strict=True), 1):
        x, y, v = target[points].T
        box = target[target[:, 2] > 0, :2]
        images.append({"id": number, "width": 512, "height": 512})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "iscrowd": 0,
                "area": float(np.prod(np.ptp(box, axis=0))),
                "bbox": [float(x.min()), float(y.min()), float(np.ptp(x)), float(np.ptp(y))],
                "num_keypoints": int((v > 0).sum()),
                "keypoints": target[points].ravel().tolist(),
            }
        )
        if (pose[points, 2] > 0).any():
            keypoints = pose[points].ravel().tolist()
            result = {"image_id": number, "category_id": 1, "score": float(scores[number - 1]), "keypoints": keypoints}
            results.append(result)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(results), "keypoints")
        run.params.kpt_oks_sigmas = SIGMAS[points]
        run.evaluate()
        run.accumulate()
        run.summarize()
    return dict(zip(("ap", "ap50", "ap75", "ar"), run.stats[[0, 1, 2, 5]].tolist(), strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("points", [slice(0, 133), HANDS])
@pytest.mark.parametrize("seed", range(3))
def test_pycocotools_agrees(points, seed):
    truth, found, scores = random_poses(seed)
    ours = evaluate(torch.tensor(truth), torch.tensor(found), torch.tensor(scores), points=points)
    assert ours == pytest.approx(oracle(truth, found, scores, points), abs=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pycocotools_agrees_on_200_small_sets():
    """Few images, ties of the scores, sets in which nobody or no hand is found: where a rank or a count slips."""
    compared = 0
    for seed in range(200):
        truth, found, scores = random_poses(seed, count=1 + seed % 7)
        points = HANDS if seed % 2 else slice(0, 133)
        ours = evaluate(torch.tensor(truth), torch.tensor(found), torch.tensor(scores), points=points)
        if (found[..., 2] > 0).any():
            assert ours == pytest.approx(oracle(truth, found, scores, points), abs=1e-9), seed
            compared += 1
        else:  # pycocotools cannot read an empty list
            assert set(ours.values()) == {0.0}
    assert compared > 180


def test_images_without_truth_count_on_neither_side():
    truth, found = shifted([0, 0], HANDS)
    truth[1, :, 2] = 0
    assert evaluate(truth, found, points=HANDS)["ap"] == pytest.approx(1.0)
    truth[:, :, 2] = 0
    assert np.isnan(evaluate(truth, found)["ap"])


def test_own_area_is_the_strict_one():
    truth, found = shifted([6] * 4, HANDS)
    truth[:, 0] = found[:, 0] = torch.tensor([1000.0, 1000.0, 2.0])
    assert evaluate(truth, found, points=HANDS, area="own")["ar"] < evaluate(truth, found, points=HANDS)["ar"]


def test_ap_accumulates_over_batches_of_any_order():
    truth, found, scores = map(torch.tensor, random_poses(0))
    metric, ids = KeypointAP(), torch.arange(40)
    metric.update(found[:0], scores[:0], truth[:0], ids[:0])
    for part in (slice(20, 40), slice(0, 20)):
        metric.update(found[part], scores[part], truth[part], ids[part])
    assert float(metric.compute()["ap"]) == evaluate(truth, found, scores)["ap"]


def test_mpjpe_by_hand():
    truth, found = torch.zeros(2, 1, 133, 3)
    truth[0, 0] = torch.tensor([30.0, 40.0, 2.0])
    truth[0, 1] = torch.tensor([60.0, 80.0, 2.0])
    found[0, 0] = torch.tensor([40.0, 40.0, 2.0])
    both, matched = MPJPE(), MPJPE(missing="skip")
    for metric in (both, matched):
        metric.update(found, truth, (100, 200))
    assert float(both.compute()) == pytest.approx((0.1 + np.hypot(0.6, 0.4)) / 2)
    assert float(matched.compute()) == pytest.approx(0.1)


def test_mpjpe_weighs_images_equally_and_ignores_unlabelled_joints():
    truth, found = torch.zeros(2, 3, 133, 3)
    truth[0, :10] = torch.tensor([10.0, 0.0, 2.0])
    truth[1, 0] = torch.tensor([50.0, 0.0, 2.0])
    found[..., 2] = 2
    found[2, :, 0] = 90
    metric = MPJPE()
    metric.update(found, truth, (100, 100))
    assert float(metric.compute()) == pytest.approx((0.1 + 0.5) / 2)


def test_detection_rates():
    truth, found = torch.zeros(2, 2, 133, 3)
    truth[:, LEFT_HAND, 2] = truth[0, RIGHT_HAND, 2] = 2
    found[0, RIGHT_HAND, 2] = found[1, RIGHT_HAND, 2] = 2
    people, hands = DetectionRate(), DetectionRate("hands")
    people.update(found, truth)
    hands.update(found, truth)
    assert float(people.compute()) == 1.0
    assert float(hands.compute()) == pytest.approx(1 / 3)


def test_nothing_to_measure_is_nan():
    nothing, error, rate = torch.zeros(2, 133, 3), MPJPE(), DetectionRate()
    error.update(nothing, nothing, (64, 64))
    rate.update(nothing, nothing)
    assert torch.isnan(error.compute())
    assert torch.isnan(rate.compute())


@pytest.mark.parametrize(("unfound", "expected"), [("miss", 0.504950), ("wrong", 0.252475)])
def test_people_without_found_hands_are_misses_or_wrong(unfound, expected):
    """Five people with perfect hands, and five of higher confidence of whom no hand was found."""
    truth = np.concatenate([np.random.default_rng(0).uniform(10, 90, (133, 2)), np.full((133, 1), 2)], axis=1)
    found = np.stack([truth] * 10)
    found[5:, HANDS] = 0
    metric = KeypointAP(HANDS, unfound=unfound)
    scores = torch.tensor([0.5] * 5 + [0.9] * 5)
    metric.update(torch.from_numpy(found), scores, torch.from_numpy(np.stack([truth] * 10)), torch.arange(10))
    assert float(metric.compute()["ap"]) == pytest.approx(expected, abs=1e-6)
    assert float(metric.compute()["ar"]) == 0.5
