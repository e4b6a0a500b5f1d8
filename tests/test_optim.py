"""The learning rate: linear scaling, warm-up and schedules, from the equations of arXiv 1706.02677."""

import pytest

from hpcfilter.config import Train
from hpcfilter.optim import learning_rate


def rates(*moments, global_batch=256, **keys):
    train = Train(epochs=10, batch=1, lr=0.1, lr_batch=256, **keys)
    return [learning_rate(train, global_batch, moment, train.epochs) for moment in moments]


def test_warm_up_is_a_straight_line_to_the_scaled_rate():
    assert rates(0, 1, 2, global_batch=1024, warmup_epochs=2, schedule="constant") == pytest.approx([0.1, 0.25, 0.4])
    assert rates(0, 1, 2, global_batch=64, warmup_epochs=2, schedule="constant") == pytest.approx([0.025, 0.025, 0.025])
    assert rates(0, 5, global_batch=1024, warmup_epochs=0, schedule="constant", lr_scaling="none") == [0.1, 0.1]


def test_cosine_falls_from_the_peak_to_zero():
    assert rates(0, 5, 10, warmup_epochs=0) == pytest.approx([0.1, 0.05, 0])
    assert rates(2, 6, 10, warmup_epochs=2) == pytest.approx([0.1, 0.05, 0])


def test_steps_fall_at_the_milestones():
    step = {"schedule": "step", "warmup_epochs": 0, "milestones": [0.3, 0.6], "gamma": 0.1}
    assert rates(0, 2.99, 3, 5.9, 6, 9, **step) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
