"""Fuzzing of all parsers of untrusted bytes: `make fuzz MINUTES=10`, seconds of it in `make test`.

A module in targets/ has TARGETS; every fixed finding is added to corpus/<target>/.
"""
