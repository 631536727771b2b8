"""The steps of a deployment's journey that are the same on each cloud."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from localstack import steps, usage
from localstack.deployed import Deployed
from localstack.gateway import Gateway

Files = Callable[[], AbstractContextManager[str]]
# the clouds' schedulers count in minutes
TICK = 150.0
# an event is delivered at once, and its pass asks for a worker, which may have to start
EVENT = 30.0

AnyDeployed = TypeVar("AnyDeployed", bound=Deployed)


class CloudJourney(ABC, Generic[AnyDeployed]):
    """The state that the steps share. Each step returns its result in a few words, or raises AssertionError."""

    def __init__(self, deployment: AnyDeployed, files: Files = usage.serve_flights) -> None:
        """`files`: serves what the flagship fetches."""
        self.deployment = deployment
        self.digests: dict[str, str] = {}
        self._files = files
        self._gateway: Gateway | None = None

    @property
    def gateway(self) -> Gateway:
        if self._gateway is None:
            self._gateway = self.deployment.gateway()
        return self._gateway

    def run(self, stays: bool) -> int:
        """All steps, with the packages before them; returns the exit status. `stays`: until Ctrl-C, before the last."""
        *others, destroy = self.steps()
        waiting = [("stay", self.stay)] if stays else []
        try:
            steps.run([("package", self.deployment.package), *others, *waiting, destroy])
        except steps.StepFailed as error:
            print(f"failed: {error}\n\nthe end of the log:\n{self.deployment.logs()}")
            return 1
        finally:
            self.deployment.stop_servers()
        return 0

    def stay(self) -> str:
        return steps.stay(self.deployment.outputs()["gateway_url"], self.deployment.command())

    def init(self) -> str:
        self.deployment.init()
        return "with the fake provider" if self.deployment.provider else "with the real provider"

    def smoke(self) -> str:
        return self.deployment.smoke()

    def flagship(self) -> str:
        id, said = usage.flagship(self.gateway, self.deployment.servers, self._files())
        self.digests["flagship"] = self.deployment.digest(id)
        return f"{said}, digest {self.digests['flagship'][:15]}..."

    def fan_out(self) -> str:
        id, said = usage.fan_out(self.gateway)
        self.digests["fan_out"] = self.deployment.digest(id)
        return f"{said}, digest {self.digests['fan_out'][:15]}..."

    def schedule(self) -> str:
        """Only the reconciler starts scheduled runs, and only the cloud's scheduler invokes it for that."""
        return usage.schedule(self.gateway, TICK)

    def second_apply(self) -> str:
        changes = self.deployment.changes()
        assert changes == [], changes
        return "no changes"

    def destroy(self) -> str:
        said = self.deployment.destroy().text
        left = self.existing()
        assert left == {}, left
        return next(line for line in said.splitlines() if line.startswith("Destroy complete!"))

    @abstractmethod
    def existing(self) -> Mapping[str, Sequence[str]]:
        """The resources that there are beside what the deployment was given, by kind."""

    @abstractmethod
    def steps(self) -> list[steps.Step]:
        """All steps in order, each with its name."""
