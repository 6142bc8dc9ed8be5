"""The settings of a run by the long names of their options."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

Setting = str | int | float | bool | list[str] | list[float]
Settings = Mapping[str, Setting]
NO_SETTINGS: Settings = MappingProxyType({})


@runtime_checkable
class Named(Protocol):
    """What is one option, though it has parts."""

    @property
    def option(self) -> str:
        """As it is written on the command line."""
        ...


# Where results are kept changes none of them; what patterns mean follows from them.
_LEFT_OUT = ("cache", "selection")


def settings_of(record: Any) -> dict[str, Setting]:
    """The fields of a record of options, and of the records in it, that are set.

    Args:
        record: A dataclass whose fields are named as options are.

    Returns:
        By long name without dashes. Paths are absolute: the settings may be used from anywhere.
    """
    found: dict[str, Setting] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if field.name in _LEFT_OUT or value is None or value == ():
            continue
        if isinstance(value, Named):
            found[field.name] = value.option
        elif is_dataclass(value):
            found |= settings_of(value)
        else:
            found[field.name.replace("_", "-")] = _setting(value)
    return found


def _setting(value: Any) -> Setting:
    if isinstance(value, tuple):
        if all(isinstance(each, int | float) for each in value):
            return [float(each) for each in value]
        return [str(each) for each in value]
    if isinstance(value, Path):
        return str(value.absolute())
    setting: Setting = value
    return setting
