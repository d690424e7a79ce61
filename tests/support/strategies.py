"""Hypothesis strategies used by more than one test module."""

from hypothesis import strategies as st

CLASSIFIERS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True)
PATHS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
