"""Fuzzing of all that reads what strangers send: `make fuzz MINUTES=10`, and a minute in the gate.

A module in targets/ has TARGETS; every find that was mended joins corpus/<target>/.
"""
