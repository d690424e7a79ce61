"""How good a candidate is: measured, evaluated, compared with the live model."""
