"""The networks of our trainer's artefacts, run in this process."""
