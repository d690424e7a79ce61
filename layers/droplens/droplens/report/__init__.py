"""The report on a measured candidate: reports/<classifier>/<run>/index.html."""
