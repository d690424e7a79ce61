"""Statistics of predictions, as pure functions: calibration, intervals, tests."""
