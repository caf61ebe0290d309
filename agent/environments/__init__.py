"""Gymnasium environments over the simulator, registered when this is imported: ``mendsim/ThreeTier-v0`` and others.

Gymnasium 1.0 gave up looking for installed environments, so either import this first, or name it:
``gymnasium.make("agent.environments:mendsim/ThreeTier-v0")``.
"""

from agent.environments.registration import register

__all__ = ["register"]

register()
