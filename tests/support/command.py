"""The command `droplens`, called in this process."""

from droplens_cli import app

# As a target, the stack "droplens" of the account that the environment names.
HERE = ("--stack", "droplens")


def run(*arguments: str, target: tuple[str, ...] = HERE) -> int:
    """Run the command on `target`; returns its exit code. Raises CommandError where it fails."""
    return app.run([*target, *arguments])
