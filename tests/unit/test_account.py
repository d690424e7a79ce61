"""What `make deploy` reads in the saved answers of sam deploy."""

from pathlib import Path

from tools import account

ANSWERS = """
version = 0.1
[default.global.parameters]
region = "eu-west-1"
[default.deploy.parameters]
stack_name = "my-lens"
profile = "work"
parameter_overrides = "PythonRuntime=\\"python3.12\\" KeepModels=\\"2\\" NotificationEmail=\\"\\""
"""


def test_saved_answers_give_stack_region_profile_and_parameters(tmp_path: Path) -> None:
    config = tmp_path / "samconfig.account.toml"
    config.write_text(ANSWERS)
    saved = account.Saved(config)
    assert saved.stack == "my-lens"
    assert saved.session_options == {"region_name": "eu-west-1", "profile_name": "work"}
    assert saved.parameters["KeepModels"] == "2"
    assert account.runtime(saved) == "python3.12"


def test_before_the_first_deploy_this_interpreter_is_built_for(tmp_path: Path) -> None:
    saved = account.Saved(tmp_path / "not-there.toml")
    assert saved.stack is None
    assert account.runtime(saved).startswith("python3.")
