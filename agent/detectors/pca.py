"""What the usual correlations do not explain: the residual of a principal component analysis."""

__all__ = ["PcaDetector"]

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.detectors.alarms import AlarmRule
from agent.detectors.raters import covariance
from agent.detectors.staged import StagedDetector, project
from agent.detectors.views import View
from simcore.errors import InputError

Floats = npt.NDArray[np.float64]


class PcaDetector(StagedDetector):
    """The squared length of the part of the features that lies outside the main components of the whole system.

    The components of all services' features together carry ``SHARE`` of the variance; a service's score is the length
    of its own part of the residual (Jackson and Mudholkar, "Control procedures for residuals associated with principal
    component analysis", Technometrics 1979; per part, since a diagnosis needs to know where).
    """

    name: ClassVar[str] = "pca"
    SHARE: ClassVar[float] = 0.9

    def __init__(self, *, rule: AlarmRule | None = None, view: View | None = None) -> None:
        super().__init__(rule=rule, view=view)
        self._residual: Floats = np.zeros((1, 0, 0))

    def _study(self, y: Floats, seed: int) -> None:
        flat = y.reshape(y.shape[0] * y.shape[1], -1)
        values, vectors = np.linalg.eigh(covariance(flat))
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        kept = min(flat.shape[1] - 1, int(np.searchsorted(np.cumsum(values), self.SHARE * values.sum())) + 1)
        main = vectors[:, :kept]
        self._residual = np.ascontiguousarray((np.eye(flat.shape[1]) - main @ main.T)[None])

    def _rate(self, y: Floats) -> Floats:
        flat = np.ascontiguousarray(y.reshape(y.shape[0], 1, -1))
        residual = np.empty(flat.shape)
        project(flat, np.zeros(flat.shape[1:]), self._residual, residual)
        score: Floats = np.square(residual.reshape(y.shape)).sum(-1)
        return score

    def _learned(self) -> dict[str, Any]:
        return super()._learned() | {"residual": self._residual[0].tolist()}

    def _restore(self, learned: dict[str, Any], n_services: int) -> None:
        super()._restore(learned, n_services)
        residual = np.array(learned["residual"], np.float64)
        if residual.shape != (self._mean.size, self._mean.size):
            raise InputError("detector state: the residual does not fit the features")
        self._residual = residual[None]
