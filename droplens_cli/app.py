"""The command line of `droplens`.

Each command is a short function here that calls the module which does the work; modules with large
libraries are imported where they are needed, so that `droplens --help` and completion are quick. A
further command is a function with `@app.command()`; `app.add_typer` adds one with subcommands.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer._click.exceptions import ClickException

from droplens import __version__
from droplens.domain.layout import is_classifier_name, live_card_key
from droplens.domain.run import RunKey, Status
from droplens.domain.text import one_line
from droplens_cli import target as targets
from droplens_cli.errors import CommandError, ExitCode, errors_explained
from droplens_cli.saved_answers import DEFAULT_STACK
from droplens_cli.target import Target

app = typer.Typer(
    name="droplens",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Image classifiers from folders of labelled pictures, in the local cloud or in AWS.",
)
target_app = typer.Typer(
    help="Show or set where all commands work.", invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(target_app, name="target")

Classifier = Annotated[str, typer.Argument(help="the classifier's name")]
Yes = Annotated[bool, typer.Option("--yes", help="ask nothing")]
RunId = Annotated[str, typer.Option("--run", help="the run's id")]
# Which results a command takes.
Label = Annotated[str, typer.Option("--label", help="predicted class")]
Confident = Annotated[
    bool | None, typer.Option("--confident/--unsure", help="whether the model is confident")
]
Familiar = Annotated[
    bool | None,
    typer.Option("--familiar/--unfamiliar", help="whether it is like the training pictures"),
]
Since = Annotated[datetime | None, typer.Option("--since", help="classified then or later, UTC")]


def _print_version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    local: Annotated[
        bool, typer.Option("--local", help="this working copy's local cloud, for this call")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="the account and stack in the file that `make deploy` saved"),
    ] = None,
    stack: Annotated[str, typer.Option("--stack", help="another stack than the target's")] = "",
    region: Annotated[
        str, typer.Option("--region", help="another AWS region than the target's")
    ] = "",
    profile: Annotated[
        str, typer.Option("--profile", help="another AWS profile than the target's")
    ] = "",
    version: Annotated[  # noqa: ARG001  its callback ends the program
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    def chosen() -> Target:
        given = {"stack": stack, "region": region, "profile": profile}
        other = {name: value for name, value in given.items() if value}
        if local:
            base = targets.local_target()
        elif config is not None and (config.is_file() or not stack):
            base = targets.account_target(config)
        elif stack:
            base = Target()
        else:
            base = targets.saved_target()
        return replace(base, **other)  # type: ignore[arg-type]

    context.obj = chosen


def _stack(context: typer.Context) -> Any:
    from droplens_cli.stack import Stack

    return Stack(context.obj())


# --- where to work


@target_app.callback()
def show_target(context: typer.Context) -> None:
    """Print the target, without one of the commands below."""
    if context.invoked_subcommand is None:
        print(targets.saved_target())
        print(f"saved in {targets.place()}")


@target_app.command("local")
def target_local(
    folder: Annotated[
        str,
        typer.Option("--folder", help="the local cloud's folder; else that of this working copy"),
    ] = "",
    port: Annotated[int, typer.Option("--port", help="its port; else DROPLENS_PORT, or 4566")] = 0,
) -> None:
    """The local cloud that `make up` starts."""
    _save(targets.local_target(folder, port))


@target_app.command("aws")
def target_aws(
    stack: Annotated[str, typer.Option("--stack", help="the stack's name")] = DEFAULT_STACK,
    region: Annotated[str, typer.Option("--region", help="its region; else the profile's")] = "",
    profile: Annotated[
        str,
        typer.Option(
            "--profile", help="a profile of `aws configure`; else what the environment says"
        ),
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option("--config", help="take all three from the file that `make deploy` saved"),
    ] = None,
) -> None:
    """A stack in an AWS account."""
    if config is not None:
        _save(targets.account_target(config))
    else:
        _save(Target(stack=stack, region=region, profile=profile))


def _save(target: Target) -> None:
    path = targets.save(target)
    print(f"{target}; saved in {path}")


# --- datasets, pictures and results


@app.command()
def upload(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="a folder of class folders, or an archive")
    ],
    classifier: Annotated[str, typer.Option("--as", help="the classifier's name")],
    check_only: Annotated[
        bool, typer.Option("--check-only", help="check, and send nothing")
    ] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="send without reading them")] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="remove what the folder does not have from the dataset")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="train again, though the dataset is the same")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="follow the run until it has ended")
    ] = False,
) -> None:
    """Check a dataset, upload it, and so start a run."""
    from droplens_cli import report
    from droplens_cli.folder_check import check, local_dataset, unreadable
    from droplens_cli.upload import Upload

    dataset = local_dataset(source, classifier)
    parameters: dict[str, str] = {}
    stack = None
    if not check_only:
        stack = _stack(context)
        parameters = stack.parameters
    console = Console(stderr=True)
    if not no_check:
        with report.progress(console) as progress:
            manifest = check(source, classifier, parameters, progress.packing)
        print(report.checked(manifest, source))
        bad = [entry["name"] for entry in unreadable(manifest)]
        if bad and dataset.last is None and dataset.archive is None:
            dataset = local_dataset(source, classifier, bad)
    if stack is None:
        return
    sending = Upload(stack.bucket, dataset)
    others = sending.others()
    if others and delete:
        sending.delete(others)
        print(f"removed from the dataset: {len(others):,} objects that the folder does not have")
    elif others:
        print(
            f"note: the dataset also keeps {len(others):,} objects that this folder does not have, "
            f"the first {one_line(others[0], 200)}; --delete removes them"
        )
    with report.progress(console) as progress:
        done = progress.uploading(dataset)
        sent = sending.send(done, again=again)
    print(f"uploaded {sent.sent:,} files, {sent.kept:,} were there already")
    if not sent.is_new:
        print(
            f"{classifier}: this dataset is complete already, as run {sent.run.run_id}; "
            "--again trains another model on it"
        )
        return
    print(f"{classifier}: run {sent.run.run_id} begins; `{stack.command('status')}` shows it")
    if watch:
        _follow(stack, sent.run)


def _follow(stack: Any, run: RunKey) -> None:
    from droplens_cli import status

    last = ""
    for item in status.follow(stack, run, timeout=3600):
        now = datetime.now(UTC)
        line = "  ".join(
            filter(None, [item["status"], status.stages(item), status.progress(item, now)])
        )
        if line != last:
            print(line, flush=True)
        last = line
        ended = Status(item["status"])
    if not last:
        raise CommandError(f"run {run.run_id} did not begin", code=ExitCode.TIMEOUT)
    if ended not in (Status.LIVE, Status.REPLACED):
        raise CommandError(
            f"run {run.run_id} is {ended.value}: {one_line(status.reason(item))}",
            f"`{stack.command('status')}` shows it",
        )


@app.command("status")
def show_status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="redraw every 2 seconds")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Classifiers, live models, newest runs and their stages, waiting pictures, queues."""
    from rich.live import Live
    from rich.text import Text

    from droplens_cli import status

    stack = _stack(context)
    if as_json:
        print(json.dumps(status.document(stack), indent=1, default=_number, ensure_ascii=False))
        return
    if not watch:
        print(status.page(stack, datetime.now(UTC)))
        return
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            live.update(Text(status.page(stack, datetime.now(UTC))), refresh=True)
            time.sleep(status.POLL_SECONDS)


@app.command()
def classify(
    context: typer.Context,
    photos: Annotated[
        list[Path] | None, typer.Argument(metavar="PHOTO...", help="files, or folders")
    ] = None,
    classifier: Annotated[
        str, typer.Option("--as", help="the classifier; else the default one")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="a line of JSON for each photo")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", help="seconds without a new result, before it gives up")
    ] = 120.0,
    prefix: Annotated[
        str,
        typer.Option("--prefix", help="in place of photos: s3://bucket/prefix, what is in S3"),
    ] = "",
    manifest: Annotated[
        str,
        typer.Option("--manifest", help="what an S3 Inventory lists: s3://bucket/…/manifest.json"),
    ] = "",
    resume: Annotated[
        str,
        typer.Option("--resume", metavar="JOB", help="go on with a job of --prefix or --manifest"),
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="a file for the rows of such a job")
    ] = None,
    kind: Annotated[
        str, typer.Option("--format", help="csv, jsonl or parquet; else by the file's ending")
    ] = "",
    yes: Yes = False,
) -> None:
    """Drop photos into the bucket, wait for their results, and print them.

    With --prefix or --manifest, classify what is in any bucket of InferenceSources, by AWS Batch.
    With both, what the inventory lists below the prefix.
    """
    if sum(map(bool, (photos, prefix or manifest, resume))) != 1:
        raise CommandError(
            "name photos, or --prefix or --manifest, or --resume", code=ExitCode.USAGE
        )
    if not photos:
        stack, into = _stack(context), _format(output, kind)
        job = _stored_job(stack, resume, prefix, manifest, classifier, yes)
        _infer(stack, job, into, output)
        return
    from droplens_cli import classify as classifying
    from droplens_cli import report

    paths = classifying.photographs(photos)
    stack = _stack(context)
    name = classifying.answering_classifier(stack, classifier)
    bucket = stack.bucket
    dropped = classifying.drop(bucket, paths, name, classifier)
    answered: dict[str, dict[str, Any]] = {}
    with report.progress(Console(stderr=True)) as progress:
        step = progress.counting("results", len(dropped))
        for one, result in classifying.results(bucket, dropped, timeout):
            answered[one.key] = result
            step()
            if as_json:
                line = {"photo": str(one.path), **result}
                print(json.dumps(line, ensure_ascii=False), flush=True)
    if not as_json:
        print(report.predictions([(one.path, answered.get(one.key)) for one in dropped]))
    missing = [one for one in dropped if one.key not in answered]
    if missing:
        raise CommandError(
            f"{len(missing)} of {len(dropped)} photos have no result yet, the first "
            f"{missing[0].path}",
            f"it will be at {missing[0].result}; `{stack.command('status')}` shows what waits",
            ExitCode.TIMEOUT,
        )
    rejected = sum(result["status"] == "rejected" for result in answered.values())
    if rejected:
        raise CommandError(
            f"{rejected} of {len(dropped)} photos were rejected",
            "the reason stands in their results",
            ExitCode.BAD_INPUT,
        )


def _infer(stack: Any, job: Any, kind: str, output: Path | None) -> None:
    """Have a job done, and write its rows."""
    from droplens_cli import inference, report
    from droplens_cli import results as reading

    name = f"{job.classifier}/{job.job_id}"
    print(
        f"{name}: {job.images:,} pictures of s3://{job.bucket}/{job.source}; "
        f"`droplens classify --resume {name}` goes on where it stands",
        file=sys.stderr,
    )
    with report.progress(Console(stderr=True)) as progress:
        step, shown = progress.counting("parts", job.parts), 0
        for done in inference.work(stack, job):
            for _ in range(done - shown):
                step()
            shown = done
    if kind:
        count = reading.write(inference.rows(stack.bucket, job), kind, output)
        print(f"{count:,} rows" + (f" in {output}" if output else ""), file=sys.stderr)
    else:
        place = inference.rows_place(stack.bucket, job)
        print(f"the rows are in {place}; -o FILE writes them into one")


def _stored_job(
    stack: Any, resume: str, prefix: str, manifest: str, classifier: str, yes: bool
) -> Any:
    """The job to resume; else a new one of what is listed, stored once its cost is confirmed."""
    import tempfile

    from droplens_cli import classify as classifying
    from droplens_cli import cost, inference, report

    if resume:
        return inference.stored_job(stack.bucket, resume)
    bucket, below = inference.located(prefix, "--prefix") if prefix else ("", "")
    inventory = inference.inventory_of(stack, manifest, bucket) if manifest else None
    if inventory is not None:
        bucket = inventory.bucket
    readable = inference.readable(stack, bucket)
    if inventory is None or below or not readable:
        inference.check_offered(stack, bucket, below)
    inference.check_region(stack, bucket)
    name = classifying.answering_classifier(stack, classifier)
    with tempfile.TemporaryDirectory() as folder:
        listing = inference.Listing(Path(folder))
        with report.progress(Console(stderr=True)) as progress:
            step = progress.counting("listing", None)
            if inventory is None:
                listing.list(stack.client("s3"), bucket, below, step)
            else:
                listing.read(inventory, below, readable, step)
        job = inference.new_job(stack, name, bucket, below, listing.images, manifest)
        lines = inference.cost_of(job, stack.parameters, listing.requests)
        price = sum(map(cost.Prices().listed, lines))
        left = f", {listing.archived:,} archived ones left out" if listing.archived else ""
        print(
            f"{listing.images:,} objects of {listing.bytes / 1e9:,.1f} GB{left}; about "
            f"{cost.dollars(price)} by the list prices of {cost.Prices().region}",
            file=sys.stderr,
        )
        if not yes and not typer.confirm("Classify them?", err=True):
            raise CommandError("nothing was started")
        with report.progress(Console(stderr=True)) as progress:
            stored = progress.counting("lists", job.parts)
            inference.prepare(stack.bucket, job, Path(folder), stored)
    return job


def _format(output: Path | None, kind: str) -> str:
    """The chosen format of an output, or "" for none."""
    from droplens_cli import results as reading

    chosen = kind or (reading.format_of(output) if output else "")
    if chosen not in ("", "csv", "jsonl", "parquet"):
        raise CommandError(f"--format {chosen}: csv, jsonl or parquet", code=ExitCode.USAGE)
    return chosen


@app.command("results")
def show_results(
    context: typer.Context,
    classifier: Classifier,
    below: Annotated[
        str, typer.Option("--below", help="first part of the path below the classifier")
    ] = "",
    label: Label = "",
    state: Annotated[
        str, typer.Option("--status", help="classified or rejected", metavar="STATUS")
    ] = "",
    confident: Confident = None,
    familiar: Familiar = None,
    since: Since = None,
    until: Annotated[
        datetime | None, typer.Option("--until", help="classified before, UTC")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="at most so many; 0: all")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="a file; else it is printed")
    ] = None,
    kind: Annotated[
        str, typer.Option("--format", help="csv, jsonl or parquet; else by the file's ending")
    ] = "",
) -> None:
    """Results of a classifier, filtered: as a table, CSV, JSON Lines or Parquet."""
    from itertools import islice

    from droplens_cli import report
    from droplens_cli import results as reading

    if state not in ("", "classified", "rejected"):
        raise CommandError(f"--status {state}: classified or rejected", code=ExitCode.USAGE)
    chosen = _format(output, kind)
    wanted = reading.Filter(
        below=below,
        label=label,
        status=state,
        confident=confident,
        familiar=familiar,
        since=since and since.replace(tzinfo=UTC),
        until=until and until.replace(tzinfo=UTC),
    )
    skipped = reading.Skipped()
    found = reading.read(_stack(context).bucket, classifier, wanted, skipped)
    if limit:
        found = islice(found, limit)
    if not chosen:
        print(report.rows(row for row, _ in found))
    else:
        count = reading.write(found, chosen, output)
        print(f"{count:,} results" + (f" in {output}" if output else ""), file=sys.stderr)
    if skipped.count:
        print(
            f"note: {skipped.count:,} objects there are no results, the first "
            f"{one_line(skipped.first, 200)}",
            file=sys.stderr,
        )


@app.command("export")
def export_results(
    context: typer.Context,
    classifier: Classifier,
    output: Annotated[Path, typer.Option("--output", "-o", help="the file to write")],
    label_studio: Annotated[
        bool, typer.Option("--label-studio", help="tasks with predictions, as JSON")
    ] = False,
    manifest: Annotated[
        bool, typer.Option("--manifest", help="SageMaker's augmented manifest")
    ] = False,
    coco: Annotated[bool, typer.Option("--coco", help="COCO, of whole pictures")] = False,
    label: Label = "",
    confident: Confident = None,
    familiar: Familiar = None,
    since: Since = None,
) -> None:
    """Classified pictures with their predictions, for a labelling tool."""
    from droplens_cli import labelling_tools
    from droplens_cli import results as reading

    chosen = [
        form
        for form, wanted in zip(
            labelling_tools.FORMATS, (label_studio, manifest, coco), strict=True
        )
        if wanted
    ]
    if len(chosen) != 1:
        raise CommandError(
            "which format?", "one of --label-studio, --manifest and --coco", ExitCode.USAGE
        )
    wanted = reading.Filter(
        label=label,
        status="classified",
        confident=confident,
        familiar=familiar,
        since=since and since.replace(tzinfo=UTC),
    )
    stack = _stack(context)
    found = reading.read(stack.bucket, classifier, wanted, reading.Skipped())
    documents = [result for _, result in found]
    text = "".join(labelling_tools.write(documents, chosen[0]))
    output.write_text(text, encoding="utf-8")
    print(f"{len(documents):,} pictures in {output}")
    if label_studio:
        classes = json.loads(stack.bucket.read(live_card_key(classifier))[0])["classes"]
        view = output.with_suffix(".xml")
        view.write_text(labelling_tools.label_studio_view(classes), encoding="utf-8")
        print(f"the project's labelling interface is in {view}")


@app.command("import")
def import_corrections(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="what a labelling tool has exported")
    ],
    classifier: Annotated[str, typer.Option("--as", help="the classifier that is corrected")],
) -> None:
    """Labels of people, from Label Studio, a manifest or COCO, as corrections."""
    from droplens_cli import labelling_tools, report
    from droplens_cli.corrections import import_labels

    if not is_classifier_name(classifier):
        raise CommandError(f"{classifier!r} is no classifier's name", code=ExitCode.USAGE)
    try:
        data = source.read_bytes()
    except OSError as error:
        raise CommandError(
            f"{source} cannot be read: {error.strerror}", code=ExitCode.BAD_INPUT
        ) from None
    bucket = _stack(context).bucket
    labels = labelling_tools.read(data, bucket.name)
    with report.progress(Console(stderr=True)) as progress:
        done = progress.counting("corrections", len(labels.rows))
        imported = import_labels(bucket, classifier, labels, done)
    print(f"{imported.copied:,} pictures are corrections now")
    if imported.replaced:
        print(f"{imported.replaced:,} earlier corrections of them in other classes were removed")
    for words, entries in (
        ("not in the bucket", imported.missing),
        ("not used", [f"{one.name}: {one.reason}" for one in labels.refused]),
    ):
        print("\n".join(report.listed(words, entries)), end="\n" if entries else "")


# --- running a stack


@app.command("console")
def open_console(
    context: typer.Context,
    port: Annotated[int, typer.Option("--port", help="where it listens; else a free one")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="print the address only")
    ] = False,
) -> None:
    """A page for the browser of this machine: runs, models, results, review."""
    from droplens_console.server import serve

    serve(context.obj(), port, browser=not no_browser)


@app.command("rollback")
def roll_back(
    context: typer.Context,
    classifier: Classifier,
    run_id: RunId = "",
    reclassify: Annotated[
        str,
        typer.Option("--reclassify", help="which pictures it answers again: all, unsure or none"),
    ] = "",
    yes: Yes = False,
) -> None:
    """Make an earlier model live again."""
    from droplens_cli.rollback import rollback

    if reclassify not in ("", "all", "unsure", "none"):
        raise CommandError(f"--reclassify {reclassify}: all, unsure or none", code=ExitCode.USAGE)
    print(rollback(_stack(context), classifier, run_id, reclassify, yes=yes))


@app.command("resume")
def resume_run(context: typer.Context, classifier: Classifier, run_id: RunId = "") -> None:
    """Retry now a run that waits, or that failed for a limit of AWS."""
    from droplens_cli.resume import resume

    print(resume(_stack(context), classifier, run_id))


@app.command("redrive")
def redrive_pictures(context: typer.Context) -> None:
    """Return the pictures of the dead-letter queue to their queue."""
    from droplens_cli.redrive import redrive

    found = redrive(_stack(context))
    print(
        f"Pictures sent back from the dead-letter queue: {found}"
        if found
        else "Dead-letter queue is empty"
    )


@app.command("forget")
def forget_pictures(
    context: typer.Context,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="a picture's key in the bucket, or a folder's, with a slash at its end",
        ),
    ],
    datasets: Annotated[
        bool, typer.Option("--datasets", help="equal files of datasets too")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="remove nothing")] = False,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="do not wait for classifications that have begun"),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    yes: Yes = False,
) -> None:
    """Remove a picture, all its versions and everything made from it."""
    from droplens_cli.forget import removal, report
    from droplens_cli.forget.traces import Finder, keys_of

    stack = _stack(context)
    keys = keys_of(stack.bucket, key)
    finder = Finder(stack.bucket, stack.reviews, stack.all_runs)
    found = finder.find(keys)
    outcome = None
    if not as_json or not (yes or dry_run):
        print(
            report.plan(found, with_datasets=datasets), file=sys.stderr if as_json else sys.stdout
        )
    if not dry_run:
        if not yes and not removal.confirmed(key):
            raise CommandError("nothing was removed", "run it again to be asked again")
        settle = removal.settle_nothing if no_wait else removal.settle
        outcome = removal.remove(finder, keys, found, with_datasets=datasets, settle=settle)
    if as_json:
        document = report.document(keys, found, outcome, with_datasets=datasets)
        print(json.dumps(document, ensure_ascii=False, indent=1))
    elif outcome is not None:
        print(report.done(outcome))
    if outcome is not None and outcome.left:
        raise CommandError("\n  ".join(["left, run it again:", *outcome.left]))


@app.command("destroy")
def destroy_stack(context: typer.Context, yes: Yes = False) -> None:
    """Remove the stack and everything that it created."""
    from droplens_cli.destroy import confirmed_by_name, destroy
    from droplens_cli.session import session_of

    target = context.obj()
    with errors_explained("it can be run again"):
        left = destroy(
            session_of(target),
            target.stack,
            confirmed=(lambda _: True) if yes else confirmed_by_name,
        )
    if left:
        raise CommandError("\n  ".join(["left, run it again:", *left]))
    print(f"nothing is left of {target.stack}")


@app.command("cost", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def show_cost(context: typer.Context) -> None:
    """What it costs by list prices: idle, a training run, 1,000 pictures; --usage lists options."""
    from droplens_cli import cost

    cost.main(context.args)


@app.command()
def preflight(
    context: typer.Context,
    parameters: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="template parameters")
    ] = None,
) -> None:
    """Check whether a deployment and a first run would succeed in the account."""
    from droplens_cli.preflight.command import check_account

    raise typer.Exit(check_account(context.obj(), parameters or []))


def _number(value: Any) -> int | float:
    """DynamoDB's decimals as JSON's numbers."""
    number = float(value)
    return int(number) if number.is_integer() else number


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code. Raises CommandError where it fails."""
    with errors_explained():
        outcome = app(list(arguments), prog_name="droplens", standalone_mode=False)
    return outcome if isinstance(outcome, int) else ExitCode.OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; print errors as one sentence with the next step; returns the exit code."""
    try:
        return run(sys.argv[1:] if arguments is None else arguments)
    except CommandError as error:
        print(f"error: {error.sentence}", file=sys.stderr)
        if error.next_step:
            print(f"  {error.next_step}", file=sys.stderr)
        return error.code
    except ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
