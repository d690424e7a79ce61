"""Recipes: the ways to train a model, with their parts."""
