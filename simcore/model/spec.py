"""What all parts of a scenario are made of: bounded numbers, names, and random amounts with a stated mean."""

__all__ = [
    "Demand",
    "DistName",
    "Fraction",
    "Latency",
    "Name",
    "NonNegative",
    "Positive",
    "Priority",
    "PriorityKey",
    "Range",
    "Spec",
]

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


def _from_digits(key: Any) -> Any:
    """Return a priority as a number: keys of a file are text."""
    return int(key) if isinstance(key, str) and re.fullmatch("[0-9]{1,9}", key) else key


Priority = Annotated[int, Field(ge=0, le=9)]
PriorityKey = Annotated[Priority, BeforeValidator(_from_digits)]
DistName = Literal["constant", "exponential", "lognormal", "gamma"]


class Spec(BaseModel):
    """Base of every part of a scenario: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Range(Spec):
    """A uniform range; equal ends give a constant."""

    min: float
    max: float

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.min <= self.max:
            raise ValueError(f"min must be <= max, got {self.min} and {self.max}")
        return self


class Demand(Spec):
    """A random amount with a stated mean."""

    mean_s: NonNegative
    dist: DistName = "exponential"
    sigma: Annotated[float, Field(gt=0, le=4)] = 0.5
    """Lognormal only: standard deviation of the logarithm."""
    shape: Annotated[float, Field(ge=0.05, le=1000)] = 2.0
    """Gamma only: shape parameter."""


class Latency(Demand):
    """One-way network latency."""

    mean_s: NonNegative = 0.0
    dist: DistName = "constant"
