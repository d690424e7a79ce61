"""Checks, before a deployment, whether an account can take it. Changes nothing."""
