"""What is fuzzed: each module has a list TARGETS of `tests.fuzz.engine.Target`."""
