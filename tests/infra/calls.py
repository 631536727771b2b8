"""Which of AWS's actions the code of a function asks for, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

from localstack.toolbox import ROOT

from noetl_serverless.hosts.table import FunctionSpec, load_functions
from noetl_serverless.packaging.function import Packager
from noetl_serverless.packaging.target import Target

SHARED = ROOT / "shared"
_PREFIXES = {"secretsmanager.": "secretsmanager:", "AmazonSQS.": "sqs:"}
# who may call a queue's SendMessage may call its batch
_SAME = {"sqs:SendMessageBatch": "sqs:SendMessage"}
# a port, and the modules that speak to AWS for it: what is called of the port decides what is asked of AWS
_PORTS = {
    "ResultStore": ("hosts/aws/results.py", "hosts/cloud/objects.py"),
    "Invoker": ("hosts/aws/invoker.py",),
    "Vault": ("hosts/aws/secrets.py",),
}
_VERBS = {
    "PUT": "s3:PutObject",
    "POST": "s3:PutObject",
    "GET": "s3:GetObject",
    "HEAD": "s3:GetObject",
    "DELETE": "s3:DeleteObject",
}
# a verb with a parameter of its query, wherever that stands in the function
_OTHERS = {
    ("GET", "list-type"): "s3:ListBucket",
    ("GET", "uploads"): "s3:ListBucketMultipartUploads",
    ("DELETE", "uploadId"): "s3:AbortMultipartUpload",
}


def actions() -> Mapping[str, set[str]]:
    """By function."""
    packager = Packager(ROOT, "aws", Target("3.12", "x86_64"))
    return {spec.name: _of(packager, spec) for spec in load_functions(ROOT / "functions", "aws")}


def _of(packager: Packager, spec: FunctionSpec) -> set[str]:
    trees = {}
    for module in packager.closure(spec).modules:
        base = SHARED.joinpath(*module.split("."))
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        trees[path.relative_to(SHARED / "noetl_serverless").as_posix()] = _tree(path)
    found: set[str] = set()
    for name, tree in trees.items():
        if name.startswith("hosts/aws/") and not any(name in adapter for adapter in _PORTS.values()):
            found |= set(_asked(tree))
    for port, adapter in _PORTS.items():
        others = [
            tree for name, tree in trees.items() if not name.startswith("hosts/") or name.startswith("hosts/cloud/")
        ]
        # who gets the port by another name gets all of it
        holders = {holder for tree in others for holder in _holders(tree, port)}
        called = {method for tree in others for holder, method in _method_calls(tree) if holder in holders}
        if adapter[0] in trees:
            for method, asked in _methods([trees[name] for name in adapter]).items():
                found |= asked if method in called else set()
    return {_SAME.get(action, action) for action in found}


@cache
def _tree(path: Path) -> ast.Module:
    """Most modules are of several functions."""
    return ast.parse(path.read_text())


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


def _methods(trees: list[ast.Module]) -> Mapping[str, set[str]]:
    """Public methods of an adapter and what it inherits from; of each, what it asks for, with all that it calls."""
    own: dict[str, set[str]] = {}
    uses: dict[str, set[str]] = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own.setdefault(node.name, set()).update({*_asked(node), *_of_s3(node)})
            names = (_terminal(used) for used in ast.walk(node))
            uses.setdefault(node.name, set()).update(name for name in names if name is not None)
    return {name: _all(name, own, uses) for name in own if not name.startswith("_")}


def _all(name: str, own: Mapping[str, set[str]], uses: Mapping[str, set[str]]) -> set[str]:
    reached, left = {name}, [name]
    while left:
        for used in uses[left.pop()]:
            # a public method is called on the object itself in `self.put`, and is another's in `queue.put`
            if used in own and used not in reached and (used.startswith("_") or used == "put"):
                reached.add(used)
                left.append(used)
    return set[str]().union(*(own[one] for one in reached))


def _of_s3(function: ast.AST) -> Iterator[str]:
    """`_send("GET", ...)`, with what stands in the queries of the function."""
    words = {node.value for node in ast.walk(function) if isinstance(node, ast.Constant)}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _terminal(node.func) == "_send" and node.args:
            verb = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            if verb is None:
                continue
            others = {action for (one, word), action in _OTHERS.items() if one == verb and word in words}
            yield from others or {_VERBS[str(verb)]}


def _holders(tree: ast.Module, port: str) -> Iterator[str]:
    """Names of arguments and fields that are of the port's type, or make one."""
    return (name for name, annotation in _annotated(tree) if port in annotation)


@cache
def _annotated(tree: ast.Module) -> Collection[tuple[str, str]]:
    """Arguments and fields, each with its annotation."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            found.append((node.arg, ast.unparse(node.annotation)))
        elif isinstance(node, ast.AnnAssign) and (name := _terminal(node.target)):
            found.append((name.lstrip("_"), ast.unparse(node.annotation)))
    return found


@cache
def _method_calls(tree: ast.Module) -> Collection[tuple[str, str]]:
    """Each call of a method: the name of what it is called on, and the method's."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            target = node.func.value.func if isinstance(node.func.value, ast.Call) else node.func.value
            name = _terminal(target)
            if name is not None:
                found.append((name.lstrip("_"), node.func.attr))
    return found


def _terminal(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
        case _:
            return None
