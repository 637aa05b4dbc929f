"""Which class is which network of the configuration."""

from __future__ import annotations

from upsnet.config import ModelConfig
from upsnet.model.mask_rcnn import MaskRCNN
from upsnet.model.network import Network
from upsnet.model.pair import NetworkPair
from upsnet.model.pspnet import PSPNet
from upsnet.model.upsnet import UPSNet


def build_model(config: ModelConfig, num_stuff: int, num_things: int) -> Network:
    """Builds the configured network with its starting weights.

    Raises:
        CheckpointError: the starting weights cannot be had.
    """
    classes = (num_stuff, num_things)
    if config.network == "mask_rcnn":
        return MaskRCNN(config, *classes)
    if config.network == "pspnet":
        return PSPNet(config, *classes)
    if config.network == "mr_cnn_psp":
        return NetworkPair(MaskRCNN(config, *classes), PSPNet(config, *classes))
    return UPSNet(config, *classes)
