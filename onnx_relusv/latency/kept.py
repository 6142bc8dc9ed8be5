"""Times of blocks by themselves in the cache, for the machine that they were measured on."""

import json
import platform
from collections import UserDict
from dataclasses import asdict

import numpy as np

from onnx_relusv.cache import Fields
from onnx_relusv.entries.groups import seconds_of
from onnx_relusv.latency.timings import TimingKey
from onnx_relusv.opened import Opened
from onnx_relusv.parallel import available_cores

_KIND = "timing"


class KeptTimings(UserDict[TimingKey, float]):
    """Times as `Timings`; those that an earlier run measured on this machine are there.

    Args:
        opened: The model.
    """

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        self._opened = opened

    def __missing__(self, key: TimingKey) -> float:
        arrays = self._opened.cache.get(_KIND, self._fields(key))
        seconds = None if arrays is None else seconds_of(arrays)
        if seconds is None:
            raise KeyError(key)
        self.data[key] = seconds
        return seconds

    def __contains__(self, key: object) -> bool:
        # `get` looks here first.
        if not isinstance(key, TimingKey):
            return False
        try:
            self[key]
        except KeyError:
            return False
        return True

    def __setitem__(self, key: TimingKey, seconds: float) -> None:
        super().__setitem__(key, seconds)
        self._opened.cache.put(_KIND, self._fields(key), {"seconds": np.asarray(seconds)})

    def _fields(self, key: TimingKey) -> Fields:
        return {
            **self._opened.identity,
            "machine": [platform.node(), platform.machine(), available_cores()],
            "timing": json.loads(json.dumps(asdict(key))),
        }
