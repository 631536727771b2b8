"""What a resolver works with: the session of the user, and the control plane."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from graphql import GraphQLResolveInfo

from .body_budget import ListBudget
from .control_plane import ControlPlane
from .sessions import Session

Info: TypeAlias = "GraphQLResolveInfo[Any]"


@dataclass(frozen=True, slots=True)
class Context:
    session: Session
    control_plane: ControlPlane
    budget: ListBudget = field(default_factory=ListBudget)

    @property
    def user(self) -> str:
        return self.session.user.user_id
