"""The findings of checks, and their table."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

# Where each partition's console is: "AWS GovCloud (US) User Guide", Signing in, and "Getting
# Started with Amazon Web Services in China", Endpoints.
CONSOLES = {
    "aws": "{region}.console.aws.amazon.com",
    "aws-cn": "{region}.console.amazonaws.cn",
    "aws-us-gov": "{region}.console.amazonaws-us-gov.com",
}


class State(StrEnum):
    """OK: as needed. NOTE: the first run works, something later will not, or will be slow. FAILS:
    the deployment or the first run would fail. UNKNOWN: it could not be checked."""

    OK = "ok"
    NOTE = "note"
    FAILS = "FAILS"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Place:
    """Region, partition and profile, for printed commands and links."""

    region: str
    partition: str
    profile: str | None = None

    @property
    def options(self) -> str:
        """The options of an `aws` command for this place."""
        return f"--region {self.region}" + (f" --profile {self.profile}" if self.profile else "")


@dataclass(frozen=True, slots=True)
class Increase:
    """An increase of a quota. adjustable: whether Service Quotas accepts such a request."""

    service: str
    code: str
    desired: int
    adjustable: bool = True

    def lines(self, place: Place) -> list[str]:
        """The command and, where the partition's console is known, the link."""
        if not self.adjustable:
            return ["AWS does not raise this quota by Service Quotas: ask its support"]
        command = (
            f"aws service-quotas request-service-quota-increase {place.options} --service-code "
            f"{self.service} --quota-code {self.code} --desired-value {self.desired}"
        )
        lines = [command]
        if host := CONSOLES.get(place.partition):
            lines.append(
                f"https://{host.format(region=place.region)}/servicequotas/home/services/"
                f"{self.service}/quotas/{self.code}"
            )
        return lines


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the table.

    what: the subject; found: a clause; request: the quota to increase; do: commands or steps that
    correct it; instead: alternative settings that avoid it.
    """

    state: State
    what: str
    found: str
    request: Increase | None = None
    do: tuple[str, ...] = field(default=())
    instead: tuple[str, ...] = field(default=())


def report(findings: Iterable[Finding], place: Place) -> list[str]:
    """The lines of the table: what fails first, what could not be checked apart and last."""
    findings = list(findings)
    width = max((len(finding.what) for finding in findings), default=0)
    lines: list[str] = []
    for states, title in (
        ((State.FAILS, State.NOTE, State.OK), ""),
        ((State.UNKNOWN,), "Could not be checked; may be in order or not:"),
    ):
        chosen = [finding for state in states for finding in findings if finding.state == state]
        if chosen and title:
            lines += ["", title]
        for finding in chosen:
            lines.append(f"  {finding.state:<7} {finding.what:<{width}}  {finding.found}")
            indent = " " * (width + 12)
            if finding.request:
                first, *rest = finding.request.lines(place)
                lines.append(f"{indent}request: {first}")
                lines += [f"{indent}         {line}" for line in rest]
            lines += [f"{indent}do:      {step}" for step in finding.do]
            lines += [f"{indent}instead: {setting}" for setting in finding.instead]
    return lines


def verdict(findings: Iterable[Finding]) -> tuple[str, int]:
    """The last line, and the exit status: 1 where the deployment or the first run would fail."""
    states = [finding.state for finding in findings]
    failing, unknown = states.count(State.FAILS), states.count(State.UNKNOWN)
    parts = [
        f"{failing} would fail" if failing else "nothing that was checked would fail",
        *([f"{states.count(State.NOTE)} to note"] if State.NOTE in states else []),
        *([f"{unknown} could not be checked"] if unknown else []),
    ]
    return ", ".join(parts), int(failing > 0)
