"""Gymnasium environments over the simulator; ``gymnasium.make("mendsim/ThreeTier-v0")`` finds them by itself."""

__all__: list[str] = []
