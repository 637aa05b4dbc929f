"""The one container image of all steps, CPU and GPU."""

import os

IMAGE = "upsnet:0.1.0"
"""Name of the image that `make image` builds; a registry's prefix comes by `--image` or UPSNET_IMAGE."""


def image() -> str:
    """The image that pipelines are compiled with: UPSNET_IMAGE, else IMAGE."""
    return os.environ.get("UPSNET_IMAGE") or IMAGE
