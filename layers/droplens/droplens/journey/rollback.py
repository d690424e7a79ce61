"""Back to an earlier model: by one write if its endpoint still serves, else once it does again."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from droplens.aws.sagemaker import Serving, serving
from droplens.domain import naming
from droplens.domain.card import ModelCard
from droplens.domain.errors import UserError
from droplens.domain.rollback_target import to_go_back_to
from droplens.domain.run import MAY_RETURN, Run, RunKey, Status
from droplens.journey import deploy
from droplens.journey.deploy import Artefact
from droplens.journey.origin import check_origin
from droplens.journey.retire import announce, announce_if_replaced
from droplens.runtime.settings import HostingSettings
from droplens.runtime.telemetry import follow, logger
from droplens.state.cards import Cards
from droplens.state.runs import Runs

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient


def roll_back(
    classifier: str,
    run_id: str | None,
    cards: Cards,
    runs: Runs,
    sagemaker: "SageMakerClient",
    settings: HostingSettings,
    reclassify: str,
    invoke: Callable[[object], None],
) -> tuple[RunKey, Status]:
    """Make an earlier model live again: of the run `run_id`, or what was live before the live one.

    Returns the run and LIVE, or RESTORING while its endpoint is being made. Asked again, it goes
    on where it was cut off. Raises UserError where there is no such model.
    """
    live = cards.live(classifier)
    if live is None:
        raise UserError("rollback.no_model", f"{classifier} has no live model to go back from")
    run = _target(live, run_id, runs)
    follow(run.key)
    card = cards.of_run(classifier, run.key.run_id)
    if card is None:
        raise UserError("rollback.no_card", f"the card of run {run.key.run_id} is gone")
    if run.key.run_id == live.run_id:
        if run.status is Status.RESTORING:  # cut off right after the switch
            return run.key, complete(run, cards, runs, reclassify, invoke)
        return run.key, Status.LIVE
    if run.status is not Status.RESTORING:
        if not runs.restore(run.key, live.run_id, live.generation):
            raise UserError("rollback.contended", f"run {run.key.run_id} is changing: try again")
        run = runs.get(run.key) or run
    # The record says that it is being restored before the endpoint is looked at: the event of one
    # that comes into service from now on completes the rollback.
    if not run.retired:
        serves = serving(sagemaker, run.endpoint)
        if serves is Serving.NOW:
            return run.key, complete(run, cards, runs, reclassify, invoke)
        if serves is Serving.SOON:
            logger.info("endpoint is being created already", endpoint=run.endpoint)
            return run.key, Status.RESTORING
    try:
        _make_again(run, card, runs, sagemaker, settings)
    except UserError:
        runs.restored(run.key, Status.REPLACED)
        raise
    return run.key, Status.RESTORING


def complete(
    run: Run,
    cards: Cards,
    runs: Runs,
    reclassify: str,
    invoke: Callable[[object], None],
) -> Status:
    """Switch to a restored run, whose endpoint serves.

    Unless the live model is no longer the one that was to be left: then whoever changed it has
    the last word, and the restored one is REPLACED as before.
    """
    card = cards.of_run(run.key.classifier, run.key.run_id)
    if card is None:
        raise UserError("rollback.no_card", f"the card of run {run.key.run_id} is gone")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    restored = replace(card, endpoint=run.endpoint, promoted_at=now)
    live = cards.roll_back(restored, run.leaving)
    if live.run_id != run.key.run_id:
        runs.restored(run.key, Status.REPLACED)
        announce(live, reclassify, invoke)
        logger.info("rollback abandoned: another model went live", live=live.run_id)
        return Status.REPLACED
    # Before the record says that it is done: who was cut off in between is asked again.
    announce(live, reclassify, invoke)
    runs.restored(run.key, Status.LIVE, generation=live.generation)
    announce_if_replaced(live, cards, reclassify, invoke)
    logger.info("rolled back to an earlier model", left=live.replaces)
    return Status.LIVE


def _target(live: ModelCard, run_id: str | None, runs: Runs) -> Run:
    if run_id is not None:
        run = runs.get(RunKey(live.classifier, run_id))
        if run is None:
            raise UserError("rollback.no_run", f"{live.classifier} has no run {run_id}")
        if run.status not in MAY_RETURN:
            raise UserError(
                "rollback.never_live", f"run {run_id} was never live: it is {run.status.value}"
            )
        return run
    known = {run.key.run_id: run for run in runs.of(live.classifier) if run.status in MAY_RETURN}
    target = to_go_back_to(live.run_id, live.way_back, live.replaces, known)
    if target is None:
        raise UserError(
            "rollback.no_earlier",
            f"no earlier model of {live.classifier} was live before run {live.run_id}; RUN=... "
            "names one that was live at another time",
        )
    return known[target]


def _make_again(
    run: Run, card: ModelCard, runs: Runs, sagemaker: "SageMakerClient", settings: HostingSettings
) -> None:
    """Create an endpoint of the run's artefact, under a name that was never used; the old one goes.

    Whoever is about to remove the old one must not meet the new one by its name.
    """
    mark = f"{run.key.run_id}-r{run.restored_from_generation}"
    name = naming.resource_name(settings.stack, run.key.classifier, mark)
    artefact = Artefact(run.image, run.model_data, card.trainer)
    check_origin(artefact.image, artefact.model_data, run.key, settings)
    # Kept before the endpoint exists: its event may come before we are done.
    before = run.endpoint
    runs.make_again(run, name)
    deploy.create_endpoint(sagemaker, name, artefact, run.key, settings)
    logger.info("endpoint is being re-created", endpoint=name)
    if before != name:
        # One that has failed or is out of service is there still.
        deploy.dispose(sagemaker, runs, run.key, before)
