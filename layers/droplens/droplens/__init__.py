"""Code shared by the functions and the containers."""

__version__ = "0.2.0"
"""The version of Droplens, repeated in template.yaml, the labels of the container images and
CHANGELOG.md, which cannot import it; tests/unit/test_version.py compares them."""
