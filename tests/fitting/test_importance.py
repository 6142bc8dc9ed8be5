import numpy as np

from onnx_relusv.core.blocks import Activation, LinearMap
from onnx_relusv.fitting.regression import consumers_gram, importance_root

RELU = Activation(kind="relu", slopes=np.zeros(1))
LINEAR = Activation(kind="none", slopes=np.ones(1))


def consumer(weight: np.ndarray) -> LinearMap:
    return LinearMap(weight[None], np.zeros(len(weight)))


def metric(root: np.ndarray | None) -> np.ndarray:
    assert root is not None
    return root.T @ root


def test_of_a_linear_block_it_is_the_consumers_gram_matrix_and_a_share_of_the_identity() -> None:
    weight = np.random.default_rng(0).standard_normal((7, 4))
    gram = weight.T @ weight
    level = np.trace(gram) / 4
    expected = (gram / level + 0.3 * np.eye(4)) / 1.3
    root = importance_root(LINEAR, np.zeros(4), np.ones(4), [consumer(weight)])
    # float64 throughout.
    np.testing.assert_allclose(metric(root), expected, rtol=1e-12, atol=1e-12)


def test_of_a_relu_it_is_what_consumers_feel_of_random_errors() -> None:
    """E|W(m * e)|^2 = E e'Se, by Monte Carlo over independent masks and a fixed error."""
    rng = np.random.default_rng(1)
    weight, mean = rng.standard_normal((5, 4)), np.array([-1.0, 0.0, 0.5, 2.0])
    pre = rng.standard_normal((400_000, 4)) + mean
    error = rng.standard_normal(4)
    felt = ((np.where(pre > 0, error, 0) @ weight.T) ** 2).sum(axis=1)
    scaled = metric(importance_root(RELU, mean, np.ones(4), [consumer(weight)]))
    active = (pre > 0).mean(axis=0)
    level = np.trace(weight.T @ weight * np.diag(active)) / 4
    without_identity = (scaled * 1.3 - 0.3 * np.eye(4)) * level
    four_errors = 4 * felt.std() / np.sqrt(len(felt))
    # 1 % for the activity shares, which are measured here and normal there.
    assert abs(error @ without_identity @ error - felt.mean()) < four_errors + 0.01 * felt.mean()
    # The tempting shortcut, all units active, must fail.
    everything = ((weight @ error) ** 2).sum()
    assert abs(everything - felt.mean()) > four_errors + 0.01 * felt.mean()


def test_every_tap_of_a_convolution_meets_the_channels_error() -> None:
    rng = np.random.default_rng(2)
    kernel = rng.standard_normal((3, 4, 2, 2))
    taps = [kernel[:, :, y, x] for y in range(2) for x in range(2)]
    root = importance_root(LINEAR, np.zeros(4), np.ones(4), [consumer(kernel.reshape(3, 16))])
    apart = importance_root(LINEAR, np.zeros(4), np.ones(4), [consumer(tap) for tap in taps])
    np.testing.assert_allclose(metric(root), metric(apart), rtol=1e-12, atol=1e-12)


def test_consumers_without_weight_say_nothing() -> None:
    assert importance_root(RELU, np.zeros(4), np.ones(4), [consumer(np.zeros((2, 4)))]) is None
    assert consumers_gram(4, [consumer(np.zeros((2, 4)))]) is None


def test_behind_the_activation_nothing_is_masked() -> None:
    """The errors of answers reach all consumers: E|W_c e|^2 = E e'Se, and a share of I."""
    rng = np.random.default_rng(3)
    weights = [rng.standard_normal((5, 4)), rng.standard_normal((3, 4))]
    error = rng.standard_normal(4)
    felt = sum(float(np.sum((weight @ error) ** 2)) for weight in weights)
    level = sum(float(np.sum(weight**2)) for weight in weights) / 4
    S = consumers_gram(4, map(consumer, weights))
    assert S is not None
    expected = (felt / level + 0.3 * float(error @ error)) / 1.3
    np.testing.assert_allclose(error @ S @ error, expected, rtol=1e-12)
    np.testing.assert_allclose(S, S.T, rtol=1e-15)
    assert abs(np.trace(S) / 4 - 1) < 1e-12
    # Of a linear block, whose units are all active, it is the same before.
    root = importance_root(LINEAR, np.zeros(4), np.ones(4), map(consumer, weights))
    np.testing.assert_allclose(S, metric(root), rtol=1e-10, atol=1e-12)
