"""The simulator: scenarios, faults and actions, two engines that agree to the last bit, episodes, results."""

__version__ = "0.1.0"
