"""Images without Docker: what of a Dockerfile is understood, and what a build consists of."""

import json
import os
from pathlib import Path

import pytest

from droplens.journey.container_images import collect, dockerfile_of
from localcloud.containers.dockerfile import parse
from localcloud.containers.images import (
    KEPT_BUILDS,
    Image,
    ImageError,
    ImageStore,
    check_runs_here,
    image_name,
)
from localcloud.settings import LocalCloudError


class Context:
    """A build context of one image called `job`, and the store that builds it."""

    def __init__(self, folder: Path):
        self.folder = folder / "context"
        self.store = ImageStore(self.folder, folder / "images", {"PATH": os.environ["PATH"]})
        self.built: list[str] = []

    def write(self, **files: str) -> None:
        """Files below job/ by name (`__` stands for the dot)."""
        for name, content in files.items():
            path = self.folder / "job" / name.replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def build(self) -> Image:
        return self.store.get("job", self.built.append)

    def content(self) -> set[str]:
        program = self.build().program
        return {p.relative_to(program).as_posix() for p in program.rglob("*") if p.is_file()}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    context = Context(tmp_path)
    context.write(main__py="print('hello')", other__py="x = 1", data__txt="1")
    return context


def dockerfile(*lines: str) -> str:
    return "\n".join(["FROM python:3.13-slim", "WORKDIR /opt/program", *lines])


def test_an_image_holds_exactly_what_its_dockerfile_copies(context: Context) -> None:
    context.write(Dockerfile=dockerfile("COPY job/main.py job/data.txt lib/", "COPY job/main.py m"))
    assert context.content() == {"lib/main.py", "lib/data.txt", "m"}


def test_a_copied_folder_brings_its_content_but_for_what_is_ignored(context: Context) -> None:
    for name in ("tests/test_a.py", "notes.md", "keep.md", "__pycache__/a.pyc", "deep/b/c.txt"):
        path = context.folder / "job" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (context.folder / ".dockerignore").write_text("# ours\n**/tests\njob/*.md\n!job/keep.md\n")
    context.write(Dockerfile=dockerfile("COPY job/ app/"))
    assert context.content() == {
        f"app/{name}"
        for name in ("Dockerfile", "main.py", "other.py", "data.txt", "keep.md", "deep/b/c.txt")
    }


def test_the_command_is_put_together_as_docker_does(context: Context) -> None:
    context.write(
        Dockerfile=dockerfile(
            "ENV HOME_OF=/opt/program PORT=8080",
            "ENV URL=http://x:${PORT}/$HOME_OF OLD_FORM",
            'ENTRYPOINT ["python", "-m", "job"]',
            'CMD ["serve", "/opt/program/data", "/opt/programs"]',
        )
    )
    image = context.build()
    program = str(image.program)
    assert image.command()[3:] == ["serve", f"{program}/data", "/opt/programs"]
    assert image.command(["train", "/opt/ml/model"], mounts={"/opt/ml": Path("/w")}) == [
        "python", "-m", "job", "train", "/w/model",
    ]  # fmt: skip
    assert image.command([], entrypoint=["sh"]) == ["sh"]
    environment = image.run_environment({"PORT": "9"})
    assert environment["HOME_OF"] == program
    assert environment["URL"] == f"http://x:8080/{program}"
    assert environment["PORT"] == "9"
    assert environment["PATH"].startswith(str(image.venv))
    assert "OLD_FORM" in environment


def test_run_lines_run_in_the_image_with_what_was_set_before_them(context: Context) -> None:
    context.write(
        Dockerfile=dockerfile(
            "COPY job/main.py .",
            "ENV WHO=us",
            "RUN python -c \"import os, sys; print(os.environ['WHO'], sys.prefix)\" > said.txt",
            "ENV WHO=them",
        )
    )
    image = context.build()
    said = (image.program / "said.txt").read_text().split()
    assert said == ["us", str(image.venv)]


def test_an_image_is_built_once_and_again_only_when_something_in_it_changes(
    context: Context,
) -> None:
    context.write(Dockerfile=dockerfile("COPY job/main.py ."))
    first = context.build()
    steps = len(context.built)
    context.write(other__py="x = 2")  # not copied
    assert context.build().program == first.program
    assert len(context.built) == steps
    context.write(main__py="print('changed')")
    second = context.build()
    assert second.program != first.program
    assert (
        first.program / "main.py"
    ).read_text() == "print('hello')"  # still there for who runs it
    assert second.venv == first.venv


def test_build_arguments_have_their_defaults_and_the_environment_overrides_them(
    context: Context,
) -> None:
    context.write(
        Dockerfile="\n".join(
            [
                "ARG BASE_REGISTRY=public.ecr.aws/docker/library",
                "FROM ${BASE_REGISTRY}/python:3.13-slim@sha256:" + "0" * 64,
                "ARG WHO=ours INDEX=",
                "ARG PIP_TIMEOUT=1",
                "WORKDIR /opt/program",
                "RUN echo $WHO ${INDEX-unset} $PIP_TIMEOUT > said.txt",
            ]
        )
    )
    context.store = ImageStore(
        context.folder,
        context.folder.parent / "images",
        {"PATH": os.environ["PATH"], "PIP_TIMEOUT": "9"},
    )
    assert (context.build().program / "said.txt").read_text().split() == ["ours", "unset", "9"]


def test_a_program_that_tidies_what_was_installed_shares_its_environment(context: Context) -> None:
    context.write(
        tidy__py="from pathlib import Path\nPath('tidied').write_text('1')\n",
        Dockerfile=dockerfile(
            "COPY job/tidy.py job/",
            "RUN pip install --no-index --no-deps pip && python job/tidy.py",
            "COPY job/main.py .",
        ),
    )
    first = context.build()
    assert (first.program / "tidied").is_file()
    context.write(main__py="print('changed')")
    assert context.build().venv == first.venv
    context.write(tidy__py="print('tidies otherwise')")
    assert context.build().venv != first.venv


def test_old_builds_are_forgotten(context: Context) -> None:
    context.write(Dockerfile=dockerfile("COPY job/main.py ."))
    for number in range(KEPT_BUILDS + 2):
        context.write(main__py=f"print({number})")
        image = context.build()
    builds = list(image.program.parents[2].iterdir())
    assert len(builds) == KEPT_BUILDS
    assert image.program.is_dir()


def test_an_interrupted_build_is_made_again(context: Context) -> None:
    context.write(Dockerfile=dockerfile("COPY job/main.py ."))
    image = context.build()
    (image.program.parents[1] / "complete.json").unlink()
    (image.program / "main.py").unlink()
    assert (context.build().program / "main.py").is_file()


def test_a_failing_run_line_is_named_with_the_log_and_its_last_lines(context: Context) -> None:
    context.write(Dockerfile=dockerfile("RUN echo no wheels here && exit 3"))
    with pytest.raises(ImageError) as failed:
        context.build()
    message = str(failed.value)
    assert f"{context.folder / 'job' / 'Dockerfile'}:3: RUN" in message
    assert "exit code 3" in message
    assert "no wheels here" in message
    log = Path(message.split("log: ")[1].splitlines()[0])
    assert "no wheels here" in log.read_text()


def test_a_copy_of_nothing_is_named(context: Context) -> None:
    context.write(Dockerfile=dockerfile("COPY job/absent.py ."))
    with pytest.raises(ImageError, match=r"Dockerfile:3: COPY .*job/absent\.py is not in"):
        context.build()


def test_a_copy_from_outside_the_context_is_refused(context: Context) -> None:
    (context.folder.parent / "secret.txt").write_text("x")
    context.write(Dockerfile=dockerfile("COPY ../secret.txt ."))
    with pytest.raises(ImageError, match=r"secret\.txt is not in"):
        context.build()


def test_an_unknown_image_names_the_known_ones(context: Context) -> None:
    context.write(Dockerfile=dockerfile())
    with pytest.raises(ImageError, match=r"images in .*: job"):
        context.store.get("jub")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ADD http://x/y .", "only FROM, ENV"),
        ("COPY --from=builder a b", "no flag but --chown"),
        ("COPY a /etc/a", "only /opt/program"),
        ("COPY a /opt/program/../../etc/a", "only /opt/program"),
        ("WORKDIR /srv", "only /opt/program"),
        ("ENTRYPOINT python -m job", "JSON form"),
        ('CMD ["a", 1]', "other than text"),
        ('CMD ["a"', "not a JSON list"),
        ("FROM debian:13", "plain python image"),
        ("FROM mirror/debian@sha256:python", "plain python image"),
        ("COPY a", "one destination"),
        ("RUN", "has no arguments"),
    ],
)
def test_what_has_no_local_meaning_is_refused_with_its_line(
    tmp_path: Path, line: str, says: str
) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(f"FROM python:3.13\n# a comment\n\n{line}\n")
    with pytest.raises(LocalCloudError) as refused:
        parse(path)
    assert f"{path}:4: " in str(refused.value)
    assert says in str(refused.value)


def test_continued_lines_are_one_instruction(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text('FROM python:3.13\nRUN echo a \\\n  # why\n  && echo b\nCMD ["x"]\n')
    run = parse(path)[1]
    assert (run.text, run.line) == ("echo a && echo b", 2)


@pytest.mark.parametrize("image", ["batch-prep", "trainer"])
def test_the_stack_s_builder_reads_the_same_sources_from_our_dockerfiles(
    image: str, repo_root: Path
) -> None:
    """The local cloud imports nothing of the product, so each has a reader of its own."""
    dockerfile = dockerfile_of(image)
    copies = [step for step in parse(repo_root / dockerfile) if step.keyword == "COPY"]
    sources = [repo_root / source for step in copies for source in step.words[:-1]]
    files = {
        path.relative_to(repo_root).as_posix()
        for source in sources
        for path in ([source] if source.is_file() else source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(files) > 10
    assert collect(repo_root, image).files.keys() == files | {dockerfile}


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("000000000000.dkr.ecr.us-east-1.amazonaws.com/droplens/batch-prep:latest", "batch-prep"),
        ("000000000000.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer@sha256:ab", "trainer"),
        ("trainer", "trainer"),
        ("localhost:5000/trainer", "trainer"),
    ],
)
def test_an_images_name_is_the_last_part_of_its_uri(uri: str, name: str) -> None:
    assert image_name(uri) == name
    check_runs_here(uri)


def test_an_image_of_another_account_runs_only_on_aws() -> None:
    uri = "811284229777.dkr.ecr.us-east-1.amazonaws.com/image-classification:1"
    with pytest.raises(ImageError, match="account 811284229777 and can run only on AWS"):
        check_runs_here(uri)


def test_builds_note_their_environment(context: Context) -> None:
    context.write(Dockerfile=dockerfile("COPY job/main.py ."))
    image = context.build()
    noted = json.loads((image.program.parents[1] / "complete.json").read_text())
    assert noted == {"venv": image.venv.name}


def test_an_image_is_built_below_a_folder_with_a_space(tmp_path: Path) -> None:
    context = Context(tmp_path / "a folder")
    context.write(
        main__py="print('hello')",
        Dockerfile=dockerfile(
            "COPY job/main.py main.py",
            "RUN python /opt/program/main.py > /opt/program/said.txt",
        ),
    )
    assert (context.build().program / "said.txt").read_text() == "hello\n"
