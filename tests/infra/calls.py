"""Which of AWS's actions the code of a function asks for, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from localstack.toolbox import ROOT

from noetl_serverless.hosts.table import FunctionSpec, load_functions
from noetl_serverless.packaging.function import Packager
from noetl_serverless.packaging.target import Target

SHARED = ROOT / "shared"
_PREFIXES = {"secretsmanager.": "secretsmanager:", "AmazonSQS.": "sqs:"}
# who may call a queue's SendMessage may call its batch
_SAME = {"sqs:SendMessageBatch": "sqs:SendMessage"}
# a port, and the module that speaks to AWS for it: what is called of the port decides what is asked of AWS
_PORTS = {
    "ResultStore": "hosts/aws/results.py",
    "Invoker": "hosts/aws/invoker.py",
    "Vault": "hosts/aws/secrets.py",
}
_VERBS = {"PUT": "s3:PutObject", "GET": "s3:GetObject", "DELETE": "s3:DeleteObject"}


def actions() -> Mapping[str, set[str]]:
    """By function."""
    packager = Packager(ROOT, "aws", Target("3.12", "x86_64"))
    return {spec.name: _of(packager, spec) for spec in load_functions(ROOT / "functions", "aws")}


def _of(packager: Packager, spec: FunctionSpec) -> set[str]:
    trees = {}
    for module in packager.closure(spec).modules:
        base = SHARED.joinpath(*module.split("."))
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        trees[path.relative_to(SHARED / "noetl_serverless").as_posix()] = ast.parse(path.read_text())
    found: set[str] = set()
    for name, tree in trees.items():
        if name.startswith("hosts/aws/") and name not in _PORTS.values():
            found |= set(_asked(tree))
    for port, adapter in _PORTS.items():
        others = [
            tree for name, tree in trees.items() if not name.startswith("hosts/") or name.startswith("hosts/cloud/")
        ]
        # who gets the port by another name gets all of it
        holders = {holder for tree in others for holder in _holders(tree, port)}
        called = {method for tree in others for method in _called(tree, holders)}
        if adapter in trees:
            for method, asked in _methods(trees[adapter]).items():
                found |= asked if method in called else set()
    return {_SAME.get(action, action) for action in found}


def _asked(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for prefix, service in _PREFIXES.items():
                if node.value.startswith(prefix) and node.value.removeprefix(prefix).isalpha():
                    yield service + node.value.removeprefix(prefix)
        if isinstance(node, ast.Call) and _terminal(node.func) == "request" and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and first.value == "lambda":
                yield "lambda:InvokeFunction"


def _methods(tree: ast.Module) -> Mapping[str, set[str]]:
    """Public methods of an adapter, and what each, with the private ones that it calls, asks for."""
    own: dict[str, set[str]] = {}
    uses: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own[node.name] = {*_asked(node), *_of_s3(node)}
            uses[node.name] = {name for call in ast.walk(node) if (name := _terminal(call)) and name.startswith("_")}
    return {
        name: asked.union(*(own.get(used, set()) for used in uses[name]))
        for name, asked in own.items()
        if not name.startswith("_")
    }


def _of_s3(function: ast.AST) -> Iterator[str]:
    lists = any(isinstance(node, ast.Constant) and node.value == "list-type" for node in ast.walk(function))
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _terminal(node.func) == "request":
            words = [word.value for word in node.args[:2] if isinstance(word, ast.Constant)]
            if words[:1] == ["s3"]:
                yield "s3:ListBucket" if lists else _VERBS[str(words[1])]


def _holders(tree: ast.AST, port: str) -> Iterator[str]:
    """Names of arguments and fields that are of the port's type, or make one."""
    for node in ast.walk(tree):
        annotation = getattr(node, "annotation", None)
        if annotation is None or port not in ast.unparse(annotation):
            continue
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.AnnAssign) and (name := _terminal(node.target)):
            yield name.lstrip("_")


def _called(tree: ast.AST, holders: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            target = node.func.value.func if isinstance(node.func.value, ast.Call) else node.func.value
            name = _terminal(target)
            if name is not None and name.lstrip("_") in holders:
                yield node.func.attr


def _terminal(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
        case _:
            return None
