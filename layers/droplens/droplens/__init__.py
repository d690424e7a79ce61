"""What the functions and the containers share: one module knows each fact."""

__version__ = "0.2.0"
"""Of Droplens. What cannot import it repeats it: template.yaml, the labels of the images and
CHANGELOG.md; tests/unit/test_version.py compares them."""
