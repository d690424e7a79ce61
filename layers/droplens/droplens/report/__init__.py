"""The HTML report on an evaluated candidate: reports/<classifier>/<run>/index.html."""
