"""Facts about the last convolution by itself."""

import numpy as np

from medseg.pointwise import Pointwise


def test_every_voxel_is_taken_by_itself_to_weight_times_features_plus_bias() -> None:
    pointwise = Pointwise(np.array([[1, 2], [0, -1], [3, 0]], np.float32), np.array([0, 10, 0.5], np.float32))
    features = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    logits = pointwise.apply(features)
    assert logits.shape == (3, 3, 4, 5)
    np.testing.assert_array_equal(logits[0], features[0] + 2 * features[1])
    np.testing.assert_array_equal(logits[1], 10 - features[1])
    np.testing.assert_array_equal(logits[2], 3 * features[0] + 0.5)


def test_logits_are_float32_whatever_the_features_are() -> None:
    pointwise = Pointwise(np.ones((2, 3), np.float32), np.zeros(2, np.float32))
    for kind in (np.float16, np.float32, np.float64):
        assert pointwise.apply(np.ones((3, 4), kind)).dtype == np.float32


def test_an_average_of_features_gives_the_average_of_their_logits() -> None:
    draw = np.random.default_rng(0).normal
    pointwise = Pointwise(draw(size=(5, 3)).astype(np.float32), draw(size=5).astype(np.float32))
    one, other = draw(size=(2, 3, 7))
    between = pointwise.apply(0.3 * one + 0.7 * other)
    np.testing.assert_allclose(between, 0.3 * pointwise.apply(one) + 0.7 * pointwise.apply(other), atol=1e-5)


def test_no_voxels_give_no_logits() -> None:
    pointwise = Pointwise(np.ones((2, 3), np.float32), np.zeros(2, np.float32))
    assert pointwise.apply(np.ones((3, 0, 4))).shape == (2, 0, 4)
