"""Builds the images of Cloud Run functions from their packages, with Google's buildpacks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ..failure import Failure
from ..google_user import ApiRefused, GoogleUser

BUILD_SECONDS = 1200.0
PAUSE_SECONDS = 2.0


def build_images(user: GoogleUser, parent: str, builds: Mapping[str, Mapping[str, Any]]) -> None:
    """`parent`: projects/PROJECT/locations/REGION; `builds`: image -> the request that builds it. Images that exist are
    left alone, the others are built at the same time. Failure naming the image whose build failed."""
    running = {}
    for image, request in builds.items():
        if not _exists(user, image):
            submitted = user.call("POST", "run", f"/v2/{parent}/builds:submit", request)
            running[image] = str(submitted["buildOperation"]["name"])
    deadline = time.monotonic() + BUILD_SECONDS
    for image, operation in running.items():
        _wait(user, image, operation, deadline)


def _exists(user: GoogleUser, image: str) -> bool:
    """`image`: REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG"""
    host, project, repository, name = image.split("/", 3)
    name, _, tag = name.partition(":")
    location = host.removesuffix("-docker.pkg.dev")
    place = f"projects/{project}/locations/{location}/repositories/{repository}"
    try:
        user.call("GET", "artifactregistry", f"/v1/{place}/packages/{quote(name, safe='')}/tags/{tag}")
    except ApiRefused as error:
        if error.status == 404:
            return False
        raise
    return True


def _wait(user: GoogleUser, image: str, operation: str, deadline: float) -> None:
    """The build goes on while Google does not tell how far it is."""
    while True:
        try:
            state = user.call("GET", "cloudbuild", f"/v1/{operation}")
        except ApiRefused as error:
            if error.status < 500 or time.monotonic() > deadline:
                raise
        else:
            if failure := state.get("error"):
                raise Failure(f"{image} could not be built: {failure.get('message')} ({operation})")
            if state.get("done"):
                return
            if time.monotonic() > deadline:
                raise Failure(f"{image} is not built after {BUILD_SECONDS:g} s ({operation})")
        time.sleep(PAUSE_SECONDS)
