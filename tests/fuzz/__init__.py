"""Fuzzing of all parsers of untrusted bytes: `make fuzz MINUTES=10`, and a minute in `make test`.

A module in targets/ has TARGETS; every fixed finding is added to corpus/<target>/.
"""
