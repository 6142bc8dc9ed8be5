"""What a run of every effort spends on a better file, and what it leaves out.

The stages read what they may do here; none asks for the effort by its name. What makes a file
trustworthy is not among it: its validation, what it is judged on, and bounds that are certified are
those of any run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from onnx_relusv.core.plans import Effort


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What a run does for a better file.

    Attributes:
        most_samples: About how many samples are measured, fitted to and chosen on; None for all.
        rows_share: Of the rows that moments and fits take in a normal run.
        most_ranks: Of each form of a block, how many are tried.
        most_cuts: Of each group of units, how many numbers of units are tried.
        rank_step: Ratio of neighbouring ranks that a form is offered with, where its relative error
            is costly to compute.
        apart: Whether units are ordered by covariances that are taken apart into channels and
            positions.
        searches_time: Whether of plans that lose as little the quickest is searched for, where no
            budget asks for time.
        refines: Whether fits are refined by steps, beyond what has a closed form.
        corrects: Whether damage is measured again in the compressed network.
        estimates: Whether ReLU singular values beyond the largest are ascended for.
        left_out: What is left out of a normal run, in words; empty for that one.
    """

    most_samples: int | None = None
    rows_share: float = 1.0
    most_ranks: int = 4
    most_cuts: int = 5
    rank_step: float = 1.09
    apart: bool = False
    searches_time: bool = True
    refines: bool = True
    corrects: bool = True
    estimates: bool = True
    left_out: str = ""


_NORMAL = Spending()
_QUICK = Spending(
    most_samples=1024,
    rows_share=0.25,
    most_ranks=2,
    most_cuts=3,
    rank_step=1.3,
    apart=True,
    searches_time=False,
    refines=False,
    corrects=False,
    estimates=False,
    left_out=(
        "no more than about 1,024 samples were measured, fitted to and chosen on; half as many "
        "ranks and cuts were tried; fits have a closed form and were not refined; no second plan "
        "was made by what blocks do together; no quicker plan was looked for; no ReLU singular "
        "value beyond the largest was estimated"
    ),
)
SPENDING: Mapping[Effort, Spending] = MappingProxyType({"quick": _QUICK, "normal": _NORMAL})
