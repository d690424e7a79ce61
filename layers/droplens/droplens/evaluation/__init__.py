"""Evaluation of a candidate, and its comparison with the live model."""
