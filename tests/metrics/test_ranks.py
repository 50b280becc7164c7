"""Numbers over several processes are those of one process that sees everything."""

import multiprocessing

import numpy as np
import torch
import torch.distributed as dist

from h2d.metrics.suite import Suite


def poses():
    rng = np.random.default_rng(0)
    truth = np.concatenate([rng.uniform(0, 64, (5, 133, 2)), np.full((5, 133, 1), 2)], axis=2)
    found = truth.copy()
    found[..., :2] += rng.normal(size=(5, 133, 2)) * rng.uniform(0, 2, (5, 1, 1))
    found[3] = 0
    return found, truth


def measure(numbers):
    suite, (found, truth) = Suite(), poses()
    suite.add_poses([], [], [], [], 64)
    suite.add_images(len(numbers))
    suite.add_masks(torch.ones(len(numbers)))  # none at all on one rank
    for number in numbers:
        suite.add_poses(found[[number]], [0.5], truth[[number]], [number], 64)
    return suite.compute()


def on_a_rank(rank, store, shares, queue):
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork: a parallel region would wait for them for ever
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=len(shares))
    queue.put(measure(shares[rank]))
    dist.barrier()
    dist.destroy_process_group()


def test_uneven_and_empty_ranks_agree_with_one_process(tmp_path):
    context, shares = multiprocessing.get_context("fork"), [[0, 2, 3, 4], [1], []]
    queue = context.Queue()
    ranks = [
        context.Process(target=on_a_rank, args=(rank, tmp_path / "store", shares, queue), daemon=True)
        for rank in range(3)
    ]
    for rank in ranks:
        rank.start()
    outcomes = [queue.get(timeout=180) for _ in ranks]
    for rank in ranks:
        rank.join(timeout=60)
        assert rank.exitcode == 0
    expected = measure(range(5))
    assert expected["n"] == 5
    for outcome in outcomes:
        assert outcome.keys() == expected.keys()
        for name, value in expected.items():
            assert outcome[name] == value or abs(outcome[name] - value) < 1e-12, name
