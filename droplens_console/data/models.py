"""Models: those of a classifier, their evaluations and reports, and what a person may decide."""

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from droplens.domain import layout
from droplens.domain.card import CardError, ModelCard
from droplens.domain.figures import counted
from droplens.domain.review import live_accuracy
from droplens.domain.rollback_target import to_go_back_to
from droplens.domain.run import MAY_RETURN, Run, RunKey, Status
from droplens.domain.text import one_line
from droplens.evaluation.comparison import Comparison, compare
from droplens.statistics.live_accuracy import LiveAccuracy
from droplens_cli.errors import CommandError
from droplens_console.data.errors import NotFound
from droplens_console.stack import ConsoleStack

MOST_SHOWN = 30
MOST_REPORT = 32 * 1024 * 1024
MOST_EVALUATION = 64 * 1024 * 1024
_THREADS = 8
_LONGEST_REASON = 1024  # of ApprovalDescription, by SageMaker's API Reference
_DIGEST = re.compile(rb"'sha256-[A-Za-z0-9+/]{43}='")
# The report's own policy stands at the beginning of the page.
_HEAD = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A run that was evaluated. card: None where it is missing or of another version; on_live:
    its accuracy on the images that it classified, None where too little of it is known."""

    run: Run
    card: ModelCard | None
    live: bool
    on_live: LiveAccuracy | None = None

    @property
    def accuracy(self) -> str:
        """Validation accuracy with its counts and interval."""
        if self.card is None:
            return ""
        return counted(self.card.measured.right, self.card.measured.pictures)

    @property
    def has_report(self) -> bool:
        """Whether there is a report on it."""
        return bool(self.run.record.get("report"))

    @property
    def endpoint_is_kept(self) -> bool:
        """Whether its endpoint was not removed, so that a rollback to it takes no time."""
        return bool(self.run.endpoint) and not self.run.retired

    @property
    def may_return(self) -> bool:
        """Whether a rollback may make it live again."""
        return not self.live and self.run.status in MAY_RETURN


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models of a classifier. models: the newest first; back_to: the target of a rollback
    without a run's id; left_out: older ones that were not read."""

    classifier: str
    models: Sequence[Model]
    back_to: str | None
    left_out: int

    @property
    def awaiting(self) -> list[Model]:
        """Those that a person has to promote or reject."""
        return [model for model in self.models if model.run.status is Status.AWAITING]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A model about which a person decides. live: the card of the live model; back_to: as in
    `Models`."""

    model: Model
    live: ModelCard | None
    back_to: str | None


def classifiers(stack: ConsoleStack) -> list[str]:
    """The names of all classifiers that have a run or a model."""
    found = {item["classifier"] for item in stack.run_items()}
    return sorted(found | stack.cards.classifiers())


def models_of(stack: ConsoleStack, classifier: str) -> Models:
    """The models of a classifier. Raises NotFound where it has no run."""
    runs = stack.runs.of(classifier)[::-1]
    if not runs:
        raise NotFound(f"there is no run of {classifier}")
    live = stack.cards.live(classifier)
    evaluated = [run for run in runs if _is_evaluated(run)]
    shown = evaluated[:MOST_SHOWN]
    with ThreadPoolExecutor(_THREADS) as threads:
        cards = list(threads.map(lambda run: card_of(stack, run.key), shown))
    return Models(
        classifier=classifier,
        models=[_model(stack, run, card, live) for run, card in zip(shown, cards, strict=True)],
        back_to=_back_to(runs, live),
        left_out=len(evaluated) - len(shown),
    )


def model_of(stack: ConsoleStack, run: Run, live: ModelCard | None) -> Model:
    """The model of a run. live: the card of the live model.

    Raises NotFound where the run was not evaluated.
    """
    if not _is_evaluated(run):
        raise NotFound(f"run {run.key.run_id} of {run.key.classifier} has no evaluated model")
    return _model(stack, run, card_of(stack, run.key), live)


def choice_of(stack: ConsoleStack, run: Run) -> Choice:
    """The choice about a run's model. Raises NotFound where it was not evaluated."""
    live = stack.cards.live(run.key.classifier)
    runs = stack.runs.of(run.key.classifier)
    return Choice(model=model_of(stack, run, live), live=live, back_to=_back_to(runs, live))


def _model(stack: ConsoleStack, run: Run, card: ModelCard | None, live: ModelCard | None) -> Model:
    return Model(run=run, card=card, live=_is_live(run, live), on_live=_live_accuracy(stack, run))


def _is_evaluated(run: Run) -> bool:
    return run.accuracy is not None or bool(run.record.get("report"))


def _is_live(run: Run, live: ModelCard | None) -> bool:
    return live is not None and run.key.run_id == live.run_id


def _back_to(runs: Sequence[Run], live: ModelCard | None) -> str | None:
    if live is None:
        return None
    earlier = {
        run.key.run_id for run in runs if run.status in MAY_RETURN and not _is_live(run, live)
    }
    return to_go_back_to(live.run_id, live.way_back, live.replaces, earlier)


def _live_accuracy(stack: ConsoleStack, run: Run) -> LiveAccuracy | None:
    reviews = stack.reviews
    if reviews is None or run.status not in MAY_RETURN:
        return None
    return live_accuracy(reviews.sample(run.key.classifier, run.key.run_id))


def card_of(stack: ConsoleStack, key: RunKey) -> ModelCard | None:
    """The card of a run's model; None where there is none that this version can read."""
    try:
        return stack.cards.of_run(key.classifier, key.run_id)
    except CardError:
        return None


def evaluation_of(stack: ConsoleStack, key: RunKey) -> Mapping[str, Any]:
    """The evaluation of a run's model. Raises ObjectMissing, CommandError."""
    name = layout.evaluation_key(key.classifier, key.run_id)
    body, _ = stack.bucket.read_at_most(name, MOST_EVALUATION)
    if body is None:
        raise CommandError(f"{name} has more than {MOST_EVALUATION:,} bytes")
    return dict(json.loads(body))


def report_of(stack: ConsoleStack, key: RunKey) -> tuple[bytes, list[str]]:
    """The report on a run's model, and the digests of its own style and script, as its policy
    names them. Raises ObjectMissing, CommandError."""
    name = layout.report_key(key.classifier, key.run_id)
    body, _ = stack.bucket.read_at_most(name, MOST_REPORT)
    if body is None:
        raise CommandError(f"{name} has more than {MOST_REPORT:,} bytes")
    return body, [each.decode() for each in _DIGEST.findall(body[:_HEAD])]


def compared(stack: ConsoleStack, before: Model, after: Model) -> Comparison:
    """The comparison of two models by their stored predictions, as a promotion compares.

    Raises NotFound without a card, ObjectMissing where an evaluation is gone, CommandError.
    """
    if before.card is None:
        raise NotFound(f"run {before.run.key.run_id} has no model card that can be read")
    evaluations = [evaluation_of(stack, model.run.key) for model in (after, before)]
    return compare(evaluations[0], before.card, evaluations[1])


def decide(stack: ConsoleStack, run: Run, *, promote: bool, reason: str) -> None:
    """Approve or reject a model that awaits it, in SageMaker's Model Registry.

    reason: of the person, in the registry and, where it is rejected, in the run's record. Raises
    CommandError where the run does not await a decision.
    """
    if run.status is not Status.AWAITING or not run.model_package:
        raise CommandError(
            f"run {run.key.run_id} awaits no decision any more: it is {run.status.value}"
        )
    words = one_line(reason.strip(), _LONGEST_REASON)
    stack.client("sagemaker").update_model_package(
        ModelPackageArn=run.model_package,
        ModelApprovalStatus="Approved" if promote else "Rejected",
        **({"ApprovalDescription": words} if words else {}),
    )


def roll_back(stack: ConsoleStack, key: RunKey, reclassify: str) -> str:
    """Have the run's model made live again; returns "live", or "restoring" while its endpoint is
    created. Raises CommandError where it cannot be."""
    request = {"classifier": key.classifier, "run_id": key.run_id}
    if reclassify:
        request["reclassify"] = reclassify
    result = stack.call_function("RollbackFunctionName", "rollback", request)
    return str(result["status"])
