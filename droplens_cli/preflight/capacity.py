"""Checks the account's quotas and region against the chosen parameters."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from droplens.domain import choices, regions
from droplens.domain.errors import UserError
from droplens.domain.naming import SEPARATOR
from droplens_cli.preflight.account import Account, UnavailableError
from droplens_cli.preflight.chosen import Chosen
from droplens_cli.preflight.findings import Finding, Increase, State
from droplens_cli.preflight.quotas import BUILDS, FARGATE, LAMBDA, SERVERLESS, VPCS, Quota, Quotas

# Models of a classifier that serve while a new one is measured, beside KeepModels.
LIVE_AND_CANDIDATE = 2
# Functions of the stack that run at the same time as those that classify.
OTHER_FUNCTIONS = 5


@dataclass(frozen=True, slots=True)
class InUse:
    """What endpoints use of the account's quotas: this stack's and all others.

    serverless: concurrency; instances: of each type.
    """

    own_serverless: int
    other_serverless: int
    own_instances: dict[str, int]
    other_instances: dict[str, int]


@dataclass(frozen=True)
class Capacity:
    """The checks and their inputs. new: the stack does not exist yet."""

    account: Account
    quotas: Quotas
    chosen: Chosen
    new: bool

    def findings(self) -> Iterator[Finding]:
        """One finding for each check; UNKNOWN for one that fails, which does not end the others."""
        checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
            ("region", self.region),
            ("training instance", self.training),
            ("endpoint", self.endpoint),
            ("packing vCPUs", self.packing),
            ("image builds", self.builds),
            ("Lambda concurrency", self.functions),
            ("network", self.network),
        )
        for what, check in checks:
            try:
                yield check()
            except UnavailableError as error:
                yield Finding(State.UNKNOWN, what, str(error))
            except UserError as error:
                yield Finding(State.FAILS, what, error.message)

    def region(self) -> Finding:
        """Whether the region is in our data, and has the services."""
        name = self.account.region
        known = regions.region(name)
        if not known.known:
            return Finding(
                State.UNKNOWN, "region", f"{name} is newer than our data of {regions.as_of()}"
            )
        session = self.account.session
        needed = ("batch", "codebuild", "ecr", "events", "lambda", "sagemaker", "sqs")
        missing = [
            service
            for service in needed
            if name not in session.get_available_regions(service, known.partition)
        ]
        if missing:
            return Finding(
                State.UNKNOWN, "region", f"botocore does not list {', '.join(missing)} in {name}"
            )
        return Finding(State.OK, "region", f"{name}, partition {known.partition}")

    def training(self) -> Finding:
        """The quota of the training instance, spot or on demand. Raises UserError."""
        trainer, recipe = self.chosen["TrainerImage"], self.chosen["Recipe"]
        choices.check_backbone(
            self.chosen["Backbone"], trainer, recipe, self.chosen["TrainingInstanceType"]
        )
        instance = choices.training_instance(
            self.chosen["TrainingInstanceType"], trainer, recipe, self.account.region
        )
        needed = choices.training_instances(
            self.chosen.number("TrainingInstanceCount"), trainer, recipe
        )
        spot = self.chosen["UseSpot"] == "true"
        what = "training instance"
        quota = self.quotas.by_name("sagemaker", _training(instance, spot=spot))
        kind = "spot" if spot else "on demand"
        if quota is not None and quota.value >= needed:
            return Finding(State.OK, what, f"{instance}, {kind}: quota {quota.value:g}")
        instead = tuple(self._other_trainings(instance, trainer, recipe, needed, spot=spot))
        if quota is not None and 1 <= quota.value < needed:
            instead = (f"TrainingInstanceCount={int(quota.value)}", *instead)
        if quota is None:
            return self._not_offered(what, f"{instance} for training, {kind}", instead)
        return Finding(
            State.FAILS,
            what,
            f"{instance}, {kind}: quota {quota.value:g}, and a run needs {needed}",
            request=_increase(quota, needed),
            instead=instead,
        )

    def _other_trainings(
        self, instance: str, trainer: str, recipe: str, needed: int, *, spot: bool
    ) -> Iterator[str]:
        """Settings with which the account could train with its present quotas."""

        def allowed(name: str, *, on_spot: bool, count: int = needed) -> bool:
            quota = self.quotas.by_name("sagemaker", _training(name, spot=on_spot))
            return quota is not None and quota.value >= count

        tuned = choices.fine_tunes(trainer, recipe, instance)
        price = "about three times the price" if spot else "cheaper, and may wait for capacity"
        if allowed(instance, on_spot=not spot):
            yield f"UseSpot={'false' if spot else 'true'} ({price})"
        for other in choices.training_candidates(trainer, choices.FINETUNE if tuned else recipe):
            if other != instance and allowed(other, on_spot=spot):
                yield f"TrainingInstanceType={other}"
        if tuned:
            for other in choices.CPU_CANDIDATES:
                if allowed(other, on_spot=spot, count=1):
                    one = "" if needed == 1 else " TrainingInstanceCount=1"
                    yield f"Recipe={choices.PROBE}{one} (on {other}, without a GPU; docs/probe.md)"
                    break

    def endpoint(self) -> Finding:
        """The quota of endpoints: of the first model, and of all models at once."""
        mode = choices.endpoint_mode(
            self.chosen["EndpointMode"], self.chosen["TrainerImage"], self.account.region
        )
        if mode == choices.LAMBDA:
            return Finding(State.OK, "endpoint", "none: classify_image runs the models itself")
        return self._serverless() if mode == choices.SERVERLESS else self._realtime()

    def _serverless(self) -> Finding:
        quota = self.quotas.by_code(*SERVERLESS)
        each, models = self.chosen.number("EndpointMaxConcurrency"), self._models()
        used = self.in_use()
        first = used.other_serverless + (used.own_serverless or each)
        whole = used.other_serverless + max(each * models, used.own_serverless)
        of = f"serverless: concurrency {quota.value:g} in the account, {used.other_serverless} used"
        room = int(quota.value) - used.other_serverless
        instead = [f"EndpointMaxConcurrency={room // models}"] if room >= models else []
        if self.chosen["TrainerImage"] == choices.DROPLENS:
            instead.append("EndpointMode=lambda (no endpoint)")
        instead.append("EndpointMode=realtime (an instance billed day and night)")
        return self._served(
            "endpoint", of, f"a model takes {each}", quota, first, whole, models, tuple(instead)
        )

    def _realtime(self) -> Finding:
        instance = self.chosen["EndpointInstanceType"]
        quota = self.quotas.by_name("sagemaker", f"{instance} for endpoint usage")
        if quota is None:
            offered = [
                name
                for name in choices.ENDPOINT_CANDIDATES
                if self.quotas.by_name("sagemaker", f"{name} for endpoint usage")
            ]
            others = tuple(f"EndpointInstanceType={name}" for name in offered)
            return self._not_offered("endpoint", f"{instance} for endpoints", others)
        used = self.in_use()
        own, other = (
            found.get(instance, 0) for found in (used.own_instances, used.other_instances)
        )
        models = self._models()
        return self._served(
            "endpoint",
            f"realtime: {quota.value:g} of {instance} in the account, {other} used",
            "a model takes 1",
            quota,
            other + (own or 1),
            other + max(models, own),
            models,
            ("another EndpointInstanceType",),
        )

    def _not_offered(self, what: str, instance: str, instead: tuple[str, ...]) -> Finding:
        region = self.account.region
        reason = f"{region} has no quota of {instance}: SageMaker does not offer it there"
        return Finding(State.FAILS, what, reason, instead=instead)

    def _served(
        self,
        what: str,
        of: str,
        each: str,
        quota: Quota,
        first: int,
        whole: int,
        models: int,
        instead: tuple[str, ...],
    ) -> Finding:
        if first > quota.value:
            return Finding(
                State.FAILS,
                what,
                f"{of}, and {each}",
                request=_increase(quota, whole),
                instead=instead,
            )
        if whole > quota.value:
            return Finding(
                State.NOTE,
                what,
                f"{of}; {each}: enough for the first, not for the {models} at once that a newer "
                "model beside it takes (live, candidate, KeepModels); each further classifier "
                "takes as much",
                request=_increase(quota, whole),
                instead=instead,
            )
        return Finding(State.OK, what, f"{of}; {each}, {models} at once")

    def _models(self) -> int:
        return LIVE_AND_CANDIDATE + self.chosen.number("KeepModels")

    def in_use(self) -> InUse:
        """What the region's endpoints use. Raises UnavailableError."""
        serverless = {True: 0, False: 0}
        instances: dict[bool, dict[str, int]] = {True: {}, False: {}}
        for endpoint in self.account.pages("sagemaker", "list_endpoints", "Endpoints"):
            name = endpoint["EndpointName"]
            own = name.startswith(self.chosen.stack + SEPARATOR)
            response = self.account.call(
                "sagemaker", "describe_endpoint", absent=("ValidationException",), EndpointName=name
            )
            for variant in (response or {}).get("ProductionVariants", []):
                config = variant.get("CurrentServerlessConfig")
                if config:
                    serverless[own] += config["MaxConcurrency"]
                    continue
                kind = self._instance_type(response or {}, variant["VariantName"])
                count = variant.get("CurrentInstanceCount", 1)
                instances[own][kind] = instances[own].get(kind, 0) + count
        return InUse(serverless[True], serverless[False], instances[True], instances[False])

    def _instance_type(self, endpoint: dict[str, object], variant: str) -> str:
        """Of the endpoint's configuration: DescribeEndpoint does not have it."""
        response = self.account.call(
            "sagemaker",
            "describe_endpoint_config",
            absent=("ValidationException",),
            EndpointConfigName=endpoint["EndpointConfigName"],
        )
        for one in (response or {}).get("ProductionVariants", []):
            if one["VariantName"] == variant:
                return str(one.get("InstanceType", ""))
        return ""

    def packing(self) -> Finding:
        """vCPUs on Fargate: of one job at least, else PackingMaxVcpus."""
        quota = self.quotas.by_code(*FARGATE)
        one, most = self.chosen.number("PackingVcpus"), self.chosen.number("PackingMaxVcpus")
        of = f"Fargate: {quota.value:g} in the account"
        if quota.value < one:
            return Finding(
                State.FAILS,
                "packing vCPUs",
                f"{of}, and one packing job takes {one}",
                request=_increase(quota, most),
                instead=(f"PackingVcpus={int(quota.value)}",) if quota.value >= 1 else (),
            )
        if quota.value < most:
            return Finding(
                State.NOTE,
                "packing vCPUs",
                f"{of}, less than PackingMaxVcpus={most}: the other jobs of a large dataset wait",
                request=_increase(quota, most),
                instead=(f"PackingMaxVcpus={int(quota.value)}",),
            )
        return Finding(State.OK, "packing vCPUs", f"{of}, PackingMaxVcpus={most}")

    def builds(self) -> Finding:
        """CodeBuild: the images are built one after the other."""
        quota = self.quotas.by_code(*BUILDS)
        of = f"CodeBuild: {quota.value:g} at once in the account"
        if quota.value < 1:
            return Finding(
                State.FAILS,
                "image builds",
                f"{of}, and the deployment builds images",
                request=_increase(quota, 1),
            )
        return Finding(State.OK, "image builds", of)

    def functions(self) -> Finding:
        """Lambda: what classifies, and the functions of the journey beside it."""
        quota = self.quotas.by_code(*LAMBDA)
        wanted = self.chosen.number("ClassifyMaxConcurrency") + OTHER_FUNCTIONS
        of = f"Lambda: {quota.value:g} at once in the account"
        if quota.value < wanted:
            return Finding(
                State.NOTE,
                "Lambda concurrency",
                f"{of}, shared by all its functions: these take up to {wanted}; events and "
                "pictures are retried, and wait",
                request=_increase(quota, max(1000, wanted)),
                instead=("ClassifyMaxConcurrency=2",) if wanted > 2 + OTHER_FUNCTIONS else (),
            )
        return Finding(State.OK, "Lambda concurrency", f"{of}, up to {wanted} needed")

    def network(self) -> Finding:
        """The quota of VPCs, unless the stack has its VPC or the user names subnets."""
        if self.chosen["SubnetIds"]:
            return Finding(State.OK, "network", "packing runs in your subnets")
        if not self.new:
            return Finding(State.OK, "network", "the stack has its own")
        quota = self.quotas.by_code(*VPCS)
        there = len(self.account.pages("ec2", "describe_vpcs", "Vpcs"))
        if there + 1 > quota.value:
            return Finding(
                State.FAILS,
                "network",
                f"{there} VPCs of {quota.value:g}, and the stack makes one",
                request=_increase(quota, there + 1),
                instead=("SubnetIds=... SecurityGroupIds=..., of a VPC that is there",),
            )
        return Finding(State.OK, "network", f"{there} VPCs of {quota.value:g}, the stack makes one")


def _training(instance: str, *, spot: bool) -> str:
    """The exact name of SageMaker's quota."""
    return f"{instance} for {'spot ' if spot else ''}training job usage"


def _increase(quota: Quota, desired: int) -> Increase:
    return Increase(quota.service, quota.code, desired, quota.adjustable)
