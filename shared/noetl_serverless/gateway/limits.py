"""What one GraphQL operation may request: a limit on its nesting, and one on the cost of everything it would fetch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)

from ..errors import InvalidRequest
from .relay_connection import MAX_PAGE_ROWS

MAX_DEPTH = 10
MAX_COST = 10_000
MAX_TOKENS = 2000

_PAGES = {"executions": 20, "events": 50, "runs": 50, "catalog": 50}
# these call the control plane, which costs more than a field that is already there
_CALLS = frozenset(
    {"execution", "underWay", "keptSignals", "variables", "warnings", "quarantined", "quarantine"}
    | {"executePlaybook", "rerunExecution", "cancelExecution", "proxyRequest"}
)
_CALL_COST = 20


@dataclass(frozen=True, slots=True)
class Weight:
    depth: int = 0
    cost: int = 0


def check_limits(document: DocumentNode, variables: Mapping[str, Any], operation: str | None = None) -> None:
    """InvalidRequest if the operation is nested too deep or costs too much. The document has to be valid.

    A field costs 1, a call of the control plane 20 more, and the fields inside of a page are multiplied by its size.
    Introspection is bounded by graphql-core's own rule and costs its fields.
    """
    weigher = _Weigher(document, variables)
    for definition in document.definitions:
        if not isinstance(definition, OperationDefinitionNode):
            continue
        if operation is not None and (definition.name is None or definition.name.value != operation):
            continue
        weight = weigher.selections(definition.selection_set)
        if weight.depth > MAX_DEPTH:
            raise InvalidRequest(f"The query is nested {weight.depth} levels deep; the limit is {MAX_DEPTH}")
        if weight.cost > MAX_COST:
            raise InvalidRequest(f"The query costs {weight.cost}; the limit is {MAX_COST}: request smaller pages")


class _Weigher:
    def __init__(self, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        # each fragment is weighed once, because fragments that include others could multiply without limit
        self._weighed: dict[str, Weight] = {}

    def selections(self, selection_set: SelectionSetNode | None) -> Weight:
        weights = [self._selection(node) for node in selection_set.selections] if selection_set else []
        return Weight(max((weight.depth for weight in weights), default=0), sum(weight.cost for weight in weights))

    def _selection(self, node: object) -> Weight:
        if isinstance(node, FieldNode):
            return self._field(node)
        if isinstance(node, InlineFragmentNode):
            return self.selections(node.selection_set)
        assert isinstance(node, FragmentSpreadNode)
        name = node.name.value
        if name not in self._weighed:
            self._weighed[name] = self.selections(self._fragments[name].selection_set)
        return self._weighed[name]

    def _field(self, node: FieldNode) -> Weight:
        name = node.name.value
        selected = self.selections(node.selection_set)
        if name.startswith("__"):
            return Weight(0, 1 + selected.cost)
        page = self._page(node) if name in _PAGES else 1
        call = _CALL_COST if name in _CALLS or name in _PAGES else 0
        return Weight(1 + selected.depth, 1 + call + page * selected.cost)

    def _page(self, node: FieldNode) -> int:
        default = _PAGES[node.name.value]
        for argument in node.arguments or ():
            if argument.name.value == "first":
                value: Any = None
                if isinstance(argument.value, IntValueNode):
                    value = int(argument.value.value)
                elif isinstance(argument.value, VariableNode):
                    # if absent: its own default is not looked up, and the largest page is assumed
                    value = self._variables.get(argument.value.name.value, MAX_PAGE_ROWS)
                return min(max(value, 1), MAX_PAGE_ROWS) if isinstance(value, int) else default
        return default
