"""The frozen records of what was measured."""

from dataclasses import dataclass

import numpy as np

from onnx_relusv.records import Floats, ReadOnlyArrays


@dataclass(frozen=True, eq=False, kw_only=True)
class Spectrum(ReadOnlyArrays):
    """What is known of a block's ReLU singular values and mean widths.

    With moments, all of it is about the linear map seen through the centred covariance C of its
    input, W C^(1/2); without, about W. Grouped Conv: the largest over the groups.

    Attributes:
        sigma: (r,) ordinary singular values, descending.
        lower: (r,) certified lower bounds of s_0 .. s_(r-1) on the unit ball, without bias.
        upper: (r,) certified upper bounds.
        estimate: (r,) estimates found by ascent, clipped into the bracket; neither bound. NaN
            where none was computed.
        mean_width: Gaussian mean width of the linear image of the unit ball.
        relu_mean_width_lower: Certified lower bound of the width after the activation; NaN where
            none is proved.
        relu_mean_width_upper: Certified upper bound; NaN where none is proved.
        relu_mean_width: Monte Carlo estimate from below; NaN where not computed.
        relu_mean_width_error: Standard error of that estimate from the sampling of g alone.
        in_data_metric: Whether samples shaped the metric.
        iterations: Steps of the ascent.
        seed: What drew its starts.
        provider: The execution provider that ran it.
    """

    sigma: Floats
    lower: Floats
    upper: Floats
    estimate: Floats
    mean_width: float
    relu_mean_width_lower: float
    relu_mean_width_upper: float
    relu_mean_width: float
    relu_mean_width_error: float
    in_data_metric: bool
    iterations: int
    seed: int
    provider: str

    @property
    def stable_rank(self) -> float:
        """Sum of the squared singular values over the largest one squared; 0 for a zero map."""
        return float(np.sum(self.sigma**2) / self.sigma[0] ** 2) if self.sigma[0] > 0 else 0.0
