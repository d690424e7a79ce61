"""Back to an earlier model: at once if its endpoint serves or it needs none, else once it does."""

from dataclasses import dataclass, replace
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
from droplens.journey.invocation import Invocation
from droplens.journey.origin import check_origin
from droplens.journey.retire import announce, announce_if_replaced
from droplens.runtime.settings import HostingSettings
from droplens.runtime.telemetry import follow, logger
from droplens.state import endpoints
from droplens.state.cards import Cards
from droplens.state.runs import Runs

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackRequest:
    """A person's request.

    run_id: of the model that is to be live again, None for the one that was live before the live
    one; reclassify: as in ModelSwitched.
    """

    classifier: str
    run_id: str | None
    reclassify: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """Makes the model of a run live again whose endpoint serves."""

    cards: Cards

    def complete(self, run: Run, reclassify: str, invocation: Invocation) -> Status:
        """Switch to the run, which is being restored; reclassify: as in ModelSwitched.

        Returns LIVE, or REPLACED where another model has gone live since the restoration began:
        that one stays.
        """
        card = self.cards.of_run(run.key.classifier, run.key.run_id)
        if card is None:
            raise UserError("rollback.no_card", f"the card of run {run.key.run_id} is gone")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        restored = replace(card, endpoint=run.endpoint, promoted_at=now)
        live = self.cards.roll_back(restored, run.leaving)
        if live.run_id != run.key.run_id:
            invocation.runs.restored(run.key, Status.REPLACED)
            announce(live, reclassify, invocation.invoke)
            logger.info("rollback abandoned: another model went live", live=live.run_id)
            return Status.REPLACED
        # Sent before the record is final: a repeat of an interrupted invocation sends it again.
        announce(live, reclassify, invocation.invoke)
        invocation.runs.restored(run.key, Status.LIVE, generation=live.generation)
        announce_if_replaced(live, self.cards, reclassify, invocation.invoke)
        logger.info("rolled back to an earlier model", left=live.replaces)
        return Status.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """Makes an earlier model live again, with a new endpoint where its own is gone."""

    cards: Cards
    sagemaker: "SageMakerClient"
    settings: HostingSettings

    def roll_back(self, request: RollbackRequest, invocation: Invocation) -> tuple[RunKey, Status]:
        """Make the requested model live.

        Returns the run and LIVE, or RESTORING while its endpoint is being created. The same request
        again continues where an earlier one was interrupted. Raises UserError where there is no
        such model.
        """
        live = self.cards.live(request.classifier)
        if live is None:
            raise UserError(
                "rollback.no_model", f"{request.classifier} has no live model to go back from"
            )
        runs = invocation.runs
        run = _target(live, request.run_id, runs)
        follow(run.key)
        card = self.cards.of_run(request.classifier, run.key.run_id)
        if card is None:
            raise UserError("rollback.no_card", f"the card of run {run.key.run_id} is gone")
        restoration = Restoration(cards=self.cards)
        if run.key.run_id == live.run_id:
            if run.status is Status.RESTORING:  # interrupted right after the switch
                return run.key, restoration.complete(run, request.reclassify, invocation)
            return run.key, Status.LIVE
        if run.status is not Status.RESTORING:
            if not runs.restore(run.key, live.run_id, live.generation):
                raise UserError(
                    "rollback.contended", f"run {run.key.run_id} is changing: try again"
                )
            run = runs.get(run.key) or run
        if run.model is not None:  # it needs no endpoint
            return run.key, restoration.complete(run, request.reclassify, invocation)
        # Recorded as RESTORING before the endpoint is read: the event of one that comes into
        # service from now on completes the rollback.
        if not run.retired:
            serves = serving(self.sagemaker, run.endpoint)
            if serves is Serving.NOW:
                return run.key, restoration.complete(run, request.reclassify, invocation)
            if serves is Serving.SOON:
                logger.info("endpoint is being created already", endpoint=run.endpoint)
                return run.key, Status.RESTORING
        try:
            self._create_again(run, card, runs)
        except UserError:
            runs.restored(run.key, Status.REPLACED)
            raise
        return run.key, Status.RESTORING

    def _create_again(self, run: Run, card: ModelCard, runs: Runs) -> None:
        """Create an endpoint of the run's artefact under a new name; the old one is removed.

        A removal of the old one that is still under way must not reach the new one by its name.
        """
        mark = f"{run.key.run_id}-r{run.restored_from_generation}"
        name = naming.resource_name(self.settings.stack, run.key.classifier, mark)
        artefact = Artefact(run.image, run.model_data, card.trainer)
        check_origin(artefact.image, artefact.model_data, run.key, self.settings)
        # Recorded before the endpoint exists: its event may come before this invocation ends.
        before = run.endpoint
        runs.make_again(run, name)
        deploy.create_endpoint(self.sagemaker, name, artefact, run.key, self.settings)
        logger.info("endpoint is being re-created", endpoint=name)
        if before != name:
            # One that has failed or is out of service still exists.
            endpoints.dispose(self.sagemaker, runs, run.key, before)


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
