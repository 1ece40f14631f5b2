"""The thresholds of a verdict, from ``drills.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, ValidationError


class LimitsError(ValueError):
    """The file of thresholds cannot be used; the message names it, the setting and what is wrong."""


class Limits(BaseModel):
    """What one drill must keep to; times in seconds, the others counts. The file itself explains each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    longest_stall: NonNegativeFloat = 8.0
    promotion: NonNegativeFloat = 6.0
    redundancy_after_heal: NonNegativeFloat = 40.0
    lost: NonNegativeInt = 0
    duplicated: NonNegativeInt = 0
    reordered: NonNegativeInt = 0
    phantom: NonNegativeInt = 0
    wrong: NonNegativeInt = 0
    refused: NonNegativeInt = 0
    indeterminate: NonNegativeInt = 0


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    default: dict[str, float] = Field(default_factory=dict)
    drills: dict[str, dict[str, float]] = Field(default_factory=dict)


def read_limits(path: Path, drills: Iterable[str]) -> dict[str, Limits]:
    """Return the thresholds of each of the ``drills``.

    Raises
    ------
    LimitsError
        If the file cannot be read, is not TOML, or names a drill or a threshold that does not exist.

    """
    known = set(drills)
    try:
        file = _File.model_validate(tomllib.loads(path.read_text()))
        unknown = sorted(file.drills.keys() - known)
        if unknown:
            raise LimitsError(f"{path}: [drills.{unknown[0]}]: there is no such drill; ./scripts/drill lists them")
        return {name: Limits.model_validate({**file.default, **file.drills.get(name, {})}) for name in known}
    except OSError as error:
        raise LimitsError(f"{path}: {error.strerror}: give the file of thresholds with --limits") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LimitsError(f"{path}: {where}: {first['msg']}") from None
    except tomllib.TOMLDecodeError as error:
        raise LimitsError(f"{path}: {error}") from None
