"""Terraform on copies of infra/, initialised once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.infra.terraform import Terraform, workspace


@pytest.fixture(scope="session")
def root_module(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """The root module for AWS; nothing is deployed from it."""
    terraform = Terraform(workspace(tmp_path_factory.mktemp("infra")))
    terraform("init", "-no-color", "-backend=false")
    return terraform


@pytest.fixture(scope="session")
def infra(root_module: Terraform) -> Path:
    return root_module.module.parent
