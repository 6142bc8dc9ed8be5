"""A wide reading by units and by positions: its covariance as a Kronecker product.

Columns of a Conv's patch, and of a Gemm behind a Flatten, are (channel, position). Where their
covariance is factored, it is taken for the order of the units as C_channels (x) C_positions: the
covariance of the channels, averaged over the positions, and of the positions, averaged over the
channels and scaled to a mean variance of 1. Then with C_positions = KK' every position is a reading
of its own of the weight W (I (x) K), all with the one covariance of the channels, which is small.
"""

from dataclasses import replace

import numpy as np
import scipy.linalg

from onnx_relusv.pruning.elimination import Reading
from onnx_relusv.records import FactoredCovariance


def separable(reading: Reading) -> Reading:
    """A reading by channels where it is wide and its units have positions; itself otherwise."""
    covariance, units = reading.covariance, reading.units
    if not isinstance(covariance, FactoredCovariance) or not len(units):
        return reading
    edges = np.flatnonzero(np.diff(units, prepend=units[0] - 1, append=units[-1] - 1))
    positions = int(np.gcd.reduce(np.diff(edges)))
    if positions == 1:
        return reading
    factor = covariance.factor.reshape(len(covariance.factor), -1, positions)
    own = covariance.diagonal.reshape(-1, positions)
    by_channel = factor.transpose(1, 0, 2).reshape(len(own), -1)
    channels = by_channel @ by_channel.T / positions
    channels[np.diag_indices_from(channels)] += own.mean(axis=1)
    by_position = factor.transpose(2, 0, 1).reshape(positions, -1)
    places = by_position @ by_position.T
    places[np.diag_indices_from(places)] += own.sum(axis=0)
    root = scipy.linalg.cholesky(places * (positions / np.trace(places)), lower=True)
    weight = reading.weight.reshape(len(reading.weight), -1, positions) @ root
    return replace(
        reading,
        weight=np.asarray(weight.transpose(0, 2, 1).reshape(-1, len(own))),
        covariance=channels,
        units=units[::positions],
        varies=np.asarray(reading.varies.reshape(-1, positions).any(axis=1)),
        positions=positions,
    )
