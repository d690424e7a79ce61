"""Calibration and confidence intervals: pure functions of numbers."""
