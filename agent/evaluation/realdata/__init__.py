"""Recorded incidents of real systems, brought into the shape that diagnosers see in the simulator."""
