"""The provider's side of Terraform's plugin protocol, version 6."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc

from . import catalog, planning
from .given import as_map
from .provider import Provider, RefusedConfiguration
from .resource import HalfMade
from .validation import faults
from .values import UNKNOWN, Block
from .wire import decode, encode, schema_message


class NotPassedOn(Exception):
    """The fake provider does not pass on to {0}: {1}"""

    def __str__(self) -> str:
        return f"the fake provider does not pass on to {self.args[0]}: {', '.join(self.args[1])}"


class Servicer(rpc.ProviderServicer):
    def __init__(self, provider: Provider) -> None:
        schema = catalog.schema(provider.name)
        self._ours = provider
        self._resources = provider.resources()
        self._data_sources = provider.data_sources()
        self._provider: Block = schema["provider"]
        self._blocks: dict[str, Block] = {
            name: planning.served(schema["resources"][name], resource) for name, resource in self._resources.items()
        }
        self._data_blocks: dict[str, Block] = {name: schema["data_sources"][name] for name in self._data_sources}
        self._api: Any = None

    def GetProviderSchema(self, request: Any, context: Any) -> Any:
        return pb.GetProviderSchema.Response(
            provider=schema_message(self._provider),
            resource_schemas={name: schema_message(block) for name, block in self._blocks.items()},
            data_source_schemas={name: schema_message(block) for name, block in self._data_blocks.items()},
            server_capabilities=pb.ServerCapabilities(get_provider_schema_optional=True),
        )

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:
        found = faults(self._resources[request.type_name], decode(request.config))
        return pb.ValidateResourceConfig.Response(diagnostics=[_error(f"{request.type_name}: {one}") for one in found])

    def ValidateDataResourceConfig(self, request: Any, context: Any) -> Any:
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request: Any, context: Any) -> Any:
        try:
            self._api = self._ours.connect(decode(request.config))
        except RefusedConfiguration as refused:
            message = f"the fake provider for hashicorp/{self._ours.name} {refused}"
            return pb.ConfigureProvider.Response(diagnostics=[_error(message)])
        return pb.ConfigureProvider.Response()

    def UpgradeResourceState(self, request: Any, context: Any) -> Any:
        return pb.UpgradeResourceState.Response(upgraded_state=encode(json.loads(request.raw_state.json)))

    def ReadResource(self, request: Any, context: Any) -> Any:
        def work() -> Any:
            state = decode(request.current_state)
            found = self._read(request.type_name, state)
            if found is not None:
                found = self._settle(request.type_name, found, state)
            return pb.ReadResource.Response(new_state=encode(found))

        return self._answer(work, pb.ReadResource.Response, request.type_name)

    def PlanResourceChange(self, request: Any, context: Any) -> Any:
        def work() -> Any:
            config, prior = decode(request.config), decode(request.prior_state)
            if decode(request.proposed_new_state) is None:
                return pb.PlanResourceChange.Response(planned_state=encode(None))
            resource = self._resources[request.type_name]
            block = self._blocks[request.type_name]

            def complete(planned: dict[str, Any]) -> None:
                self._ours.plan(self._api, block, planned, config, prior)
                resource.plan(self._api, planned, config, prior)

            planned = planning.plan(resource, block, config, prior, complete)
            return pb.PlanResourceChange.Response(
                planned_state=encode(planned),
                requires_replace=[
                    pb.AttributePath(steps=[pb.AttributePath.Step(attribute_name=name)])
                    for name in planning.replaced(resource, planned, prior)
                ],
            )

        return self._answer(work, pb.PlanResourceChange.Response, request.type_name)

    def ApplyResourceChange(self, request: Any, context: Any) -> Any:
        prior, planned = decode(request.prior_state), decode(request.planned_state)

        def work() -> Any:
            if planned is None:
                self._delete(request.type_name, prior)
                return pb.ApplyResourceChange.Response(new_state=encode(None))
            try:
                state, failures = self._write(request.type_name, planned, prior), []
            except HalfMade as half:
                state = self._found(request.type_name, {**_without_unknown(planned), **half.key}, planned)
                failures = [_error(f"{request.type_name}: {half}")]
            return pb.ApplyResourceChange.Response(new_state=encode(state), diagnostics=failures)

        def failed(**values: Any) -> Any:
            return pb.ApplyResourceChange.Response(new_state=request.prior_state, **values)

        return self._answer(work, failed, request.type_name)

    def ReadDataSource(self, request: Any, context: Any) -> Any:
        def work() -> Any:
            config = decode(request.config)
            found = self._data_sources[request.type_name](self._api, config)
            unknown = set(found) - set(self._data_blocks[request.type_name]["attributes"])
            assert not unknown, f"not in the schema: {unknown}"
            return pb.ReadDataSource.Response(state=encode({**config, **found}))

        return self._answer(work, pb.ReadDataSource.Response, request.type_name)

    def StopProvider(self, request: Any, context: Any) -> Any:
        return pb.StopProvider.Response()

    def _write(self, name: str, planned: Mapping[str, Any], prior: Mapping[str, Any] | None) -> dict[str, Any]:
        resource = self._resources[name]
        known = _without_unknown(planned)
        want = self._ours.given(_with_maps(self._blocks[name], known))
        want.forgo(*resource.local)
        if prior is None:
            key = resource.create(self._api, want)
            missed = list(want.untaken())
        else:
            key = dict(prior)
            resource.update(self._api, want, dict(prior))
            missed = [path for path in want.untaken() if _changed(path, planned, prior)]
        missed = [path for path in missed if path not in self._ours.own]
        if missed:
            if prior is None:
                resource.delete(self._api, {**known, **key})
            raise NotPassedOn(self._ours.cloud, missed)
        return self._found(name, {**known, **key}, planned)

    def _found(self, name: str, known: dict[str, Any], planned: Mapping[str, Any]) -> dict[str, Any]:
        found = self._read(name, known)
        if found is None:
            raise LookupError(f"{name} is not there right after it was made")
        return self._settle(name, found, planned)

    def _read(self, name: str, state: dict[str, Any]) -> dict[str, Any] | None:
        try:
            found = self._resources[name].read(self._api, state)
        except self._ours.errors as error:
            if self._ours.is_gone(error):
                return None
            raise
        if found is None:
            return None
        block = self._blocks[name]
        unknown = set(found) - set(block["attributes"]) - set(block["blocks"])
        if unknown:
            raise LookupError(f"{name}.read gives what the schema does not have: {unknown}")
        return found

    def _settle(self, name: str, found: dict[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
        block = self._blocks[name]
        state = planning.settle(self._resources[name], block, found, expected)
        self._ours.settle(self._api, block, state, expected)
        return state

    def _delete(self, name: str, prior: dict[str, Any]) -> None:
        try:
            self._resources[name].delete(self._api, prior)
        except self._ours.errors as error:
            if not self._ours.is_gone(error):
                raise

    def _answer(self, work: Callable[[], Any], response: Callable[..., Any], type_name: str) -> Any:
        expected: tuple[type[Exception], ...] = (*self._ours.errors, NotPassedOn, LookupError)
        try:
            return work()
        except Exception as error:
            if isinstance(error, expected) and not isinstance(error, KeyError | IndexError):
                return response(diagnostics=[_error(f"{type_name}: {error}")])
            return response(diagnostics=[_error(f"{type_name}: {error!r}", traceback.format_exc())])


def _with_maps(block: Block, value: Mapping[str, Any]) -> dict[str, Any]:
    """Maps marked as such, so that they are not taken for nested objects."""
    marked = dict(value)
    for name, attribute in block["attributes"].items():
        if isinstance(marked.get(name), dict) and attribute["type"][0] == "map":
            marked[name] = as_map(marked[name])
    for name, nested in block["blocks"].items():
        inner = marked.get(name)
        if isinstance(inner, list):
            marked[name] = [_with_maps(nested["block"], item) for item in inner]
        elif isinstance(inner, dict):
            marked[name] = _with_maps(nested["block"], inner)
    return marked


def _without_unknown(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_unknown(item) for key, item in value.items()}
        case list():
            return [_without_unknown(item) for item in value]
        case _:
            return None if value is UNKNOWN else value


def _changed(path: str, planned: Mapping[str, Any], prior: Mapping[str, Any]) -> bool:
    name = path.partition(".")[0].partition("[")[0]
    return bool(planned.get(name) is not UNKNOWN and planned.get(name) != prior.get(name))


def _error(summary: str, detail: str = "") -> Any:
    return pb.Diagnostic(severity=pb.Diagnostic.ERROR, summary=summary, detail=detail)
