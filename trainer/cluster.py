"""The instances of a training job, from SageMaker's resourceconfig.json.

The contract is "How Amazon SageMaker AI Provides Training Information", section "Distributed
Training Configuration", of SageMaker's Developer Guide.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from trainer.settings import SettingsError


class PeerLost(Exception):
    """A process of a distributed training ended or cannot be reached; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """hosts: the names of all instances, in the same order on each; interface: of their network."""

    hosts: tuple[str, ...] = ("localhost",)
    current: str = "localhost"
    interface: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """The job's instances; this machine alone where there is no file."""
        try:
            value = json.loads(path.read_text("utf-8"))
            hosts, current = sorted(value["hosts"]), value["current_host"]
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{path} is not SageMaker's: {error!r}.") from None
        if current not in hosts:
            raise SettingsError(f"{path}: current_host {current!r} is none of hosts.")
        return cls(tuple(hosts), current, value.get("network_interface_name"))

    @property
    def number(self) -> int:
        """This instance's place in `hosts`."""
        return self.hosts.index(self.current)

    @property
    def leader(self) -> str:
        """The host that writes the model."""
        return self.hosts[0]

    @property
    def leads(self) -> bool:
        """Whether this is the leader."""
        return self.current == self.leader
