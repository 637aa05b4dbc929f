"""PSPNet (being written)."""

from __future__ import annotations

from upsnet.model.upsnet import UPSNet as PSPNet

__all__ = ["PSPNet"]
