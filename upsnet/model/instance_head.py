"""Instance head: torchvision's Mask R-CNN parts, set to the paper's numbers.

Shapes: the pyramid P2..P6 in; per image R sampled rois in training, D detections in inference; mask logits
(R or D, T + 1, 28, 28).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign, box_iou

from upsnet.config import InferenceConfig, ModelConfig
from upsnet.structures import Detections, GivenInstances, ImageBatch, Targets

LEVEL_NAMES = ("P2", "P3", "P4", "P5", "P6")
ROI_LEVELS = LEVEL_NAMES[:4]
MASK_LAYERS = 4
SAME_BOX_IOU = 0.5


class InstanceHead(nn.Module):
    """RPN, box head and mask head.

    Source: UPSNet 3.1 and 3.2, which follow Mask R-CNN.
    """

    def __init__(self, config: ModelConfig, num_things: int) -> None:
        super().__init__()
        self.rpn = _build_rpn(config)
        self.roi_heads = _build_roi_heads(config, num_things + 1)

    def losses(
        self,
        pyramid: Sequence[Tensor],
        images: ImageBatch,
        targets: Sequence[Targets],
        kept: Sequence[Tensor],
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The five instance losses, and the mask logits of the panoptic head's instances.

        Args:
            pyramid: P2..P6.
            images: the images, for their sizes.
            targets: one per image.
            kept: per image the indices of the gt instances that the panoptic head sees.

        Returns:
            `rpn_objectness`, `rpn_box`, `box_class`, `box_regression`, `mask`; and per image (K, 28, 28)
            mask logits of the gt class inside the gt boxes at `kept`.
        """
        self.rpn.train()
        features = dict(zip(LEVEL_NAMES, (level.float() for level in pyramid), strict=True))
        # RoIHeads insists on a key "masks" but does not read it where only boxes are sampled.
        truth = [{"boxes": t.boxes, "labels": t.labels, "masks": t.instance_map} for t in targets]
        proposals, rpn_losses = self.rpn(ImageList(images.pixels, list(images.sizes)), features, truth)

        rois, matched, labels, deltas = self.roi_heads.select_training_samples(proposals, truth)
        class_logits, box_deltas = self._box_outputs(features, images, rois)
        class_loss, regression_loss = fastrcnn_loss(class_logits, box_deltas, labels, deltas)

        foreground = [torch.where(label > 0)[0] for label in labels]
        positive = [r[f] for r, f in zip(rois, foreground, strict=True)]
        boxes = [torch.cat([p, t.boxes[k]]) for p, t, k in zip(positive, targets, kept, strict=True)]
        mask_logits = self._mask_logits(features, boxes, images)
        parts = mask_logits.split([len(x) for pair in zip(positive, kept, strict=True) for x in pair])
        mask_loss = _mask_loss(
            torch.cat(parts[0::2]),
            positive,
            targets,
            [m[f] for m, f in zip(matched, foreground, strict=True)],
        )
        losses = {
            "rpn_objectness": rpn_losses["loss_objectness"],
            "rpn_box": rpn_losses["loss_rpn_box_reg"],
            "box_class": class_loss,
            "box_regression": regression_loss,
            "mask": mask_loss,
        }
        kept_labels = [t.labels[k] for t, k in zip(targets, kept, strict=True)]
        return losses, [_own_class(y, c) for y, c in zip(parts[1::2], kept_labels, strict=True)]

    def detect(
        self,
        pyramid: Sequence[Tensor],
        images: ImageBatch,
        settings: InferenceConfig,
        given: Sequence[GivenInstances] | None = None,
    ) -> list[Detections]:
        """Detections per image, by descending score: per-class NMS, then the best `detections_per_img`.

        Given boxes are all kept, with the class and the score that the box head finds there.

        Source: UPSNet 3.2, Mask R-CNN; given instances: 4.5, Table 6.
        """
        features = dict(zip(LEVEL_NAMES, (level.float() for level in pyramid), strict=True))
        if given is not None and all(truth.give_boxes for truth in given):
            boxes = [truth.boxes for truth in given]
            scores, labels = self._classify(features, images, boxes)
        else:
            boxes, scores, labels = self._detect_boxes(features, images, settings)
        if given is not None:
            labels = [_true_labels(b, c, t) for b, c, t in zip(boxes, labels, given, strict=True)]
        mask_logits = self._mask_logits(features, boxes, images).split([len(b) for b in boxes])
        return [
            Detections(b, s, c, _own_class(y, c))[s.argsort(descending=True, stable=True)]
            for b, s, c, y in zip(boxes, scores, labels, mask_logits, strict=True)
        ]

    def _detect_boxes(
        self, features: dict[str, Tensor], images: ImageBatch, settings: InferenceConfig
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Boxes, scores and labels of every image."""
        self.rpn.eval()
        heads = self.roi_heads
        heads.score_thresh, heads.nms_thresh = settings.score_thresh, settings.nms_thresh
        heads.detections_per_img = settings.detections_per_img
        proposals, _ = self.rpn(ImageList(images.pixels, list(images.sizes)), features)
        class_logits, box_deltas = self._box_outputs(features, images, proposals)
        detected: tuple[list[Tensor], list[Tensor], list[Tensor]] = heads.postprocess_detections(
            class_logits, box_deltas, proposals, list(images.sizes)
        )
        return detected

    def _classify(
        self, features: dict[str, Tensor], images: ImageBatch, boxes: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Score and label of the likeliest thing class in every box."""
        class_logits, _ = self._box_outputs(features, images, boxes)
        probs = class_logits.softmax(dim=1)[:, 1:]
        if probs.shape[1] == 0:  # no thing classes, so there are no boxes either
            return [box[:, 0] for box in boxes], [box[:, 0].long() for box in boxes]
        scores, labels = probs.max(dim=1)
        counts = [len(box) for box in boxes]
        return list(scores.split(counts)), list((labels + 1).split(counts))

    def _box_outputs(
        self, features: dict[str, Tensor], images: ImageBatch, boxes: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Class logits and box deltas of the box head, over the boxes of all images."""
        heads = self.roi_heads
        pooled = heads.box_roi_pool(features, boxes, _padded_sizes(images))
        class_logits, box_deltas = heads.box_predictor(heads.box_head(pooled))
        return class_logits.float(), box_deltas.float()

    def _mask_logits(self, features: dict[str, Tensor], boxes: list[Tensor], images: ImageBatch) -> Tensor:
        pooled = self.roi_heads.mask_roi_pool(features, boxes, _padded_sizes(images))
        logits: Tensor = self.roi_heads.mask_predictor(self.roi_heads.mask_head(pooled))
        return logits.float()


def _padded_sizes(images: ImageBatch) -> list[tuple[int, int]]:
    """What MultiScaleRoIAlign infers the strides from: they only come out exact with the padded size."""
    height, width = images.pixels.shape[-2:]
    return [(height, width)] * len(images)


class _Float32RPNHead(RPNHead):  # type: ignore[misc]
    """torchvision decodes boxes in the dtype of the deltas; bfloat16 rounds them to 4 pixels and more."""

    def forward(self, pyramid: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(pyramid)
        return [level.float() for level in objectness], [level.float() for level in deltas]


def _true_labels(boxes: Tensor, labels: Tensor, given: GivenInstances) -> Tensor:
    """The labels of the true boxes that overlap most, where they are to be given and overlap enough."""
    if not given.give_labels or len(given.boxes) == 0:
        return labels
    overlap, best = box_iou(boxes, given.boxes).max(dim=1)
    return torch.where(overlap >= SAME_BOX_IOU, given.labels[best], labels)


def _own_class(mask_logits: Tensor, labels: Tensor) -> Tensor:
    """(R, 28, 28) of (R, T + 1, 28, 28): each roi's logits of its own label."""
    return mask_logits[torch.arange(len(labels), device=labels.device), labels]


def _mask_loss(
    mask_logits: Tensor, rois: list[Tensor], targets: Sequence[Targets], matched: list[Tensor]
) -> Tensor:
    """torchvision's mask loss, with only those gt masks unpacked that a roi was matched to."""
    masks, labels, indices = [], [], []
    for target, match in zip(targets, matched, strict=True):
        used, index = match.unique(return_inverse=True)
        masks.append(target.masks(used))
        labels.append(target.labels[used])
        indices.append(index)
    loss: Tensor = maskrcnn_loss(mask_logits, rois, masks, labels, indices)
    return loss


def _build_rpn(config: ModelConfig) -> RegionProposalNetwork:
    rpn = config.rpn
    anchors = AnchorGenerator(
        tuple((size,) for size in rpn.anchor_sizes), (rpn.aspect_ratios,) * len(rpn.anchor_sizes)
    )
    return RegionProposalNetwork(
        anchors,
        _Float32RPNHead(config.fpn_channels, len(rpn.aspect_ratios)),
        fg_iou_thresh=rpn.fg_iou_thresh,
        bg_iou_thresh=rpn.bg_iou_thresh,
        batch_size_per_image=rpn.batch_size_per_image,
        positive_fraction=rpn.positive_fraction,
        pre_nms_top_n=dict(zip(("training", "testing"), rpn.pre_nms_top_n, strict=True)),
        post_nms_top_n=dict(zip(("training", "testing"), rpn.post_nms_top_n, strict=True)),
        nms_thresh=rpn.nms_thresh,
    )


def _build_roi_heads(config: ModelConfig, num_labels: int) -> RoIHeads:
    box, wide = config.box_head, config.mask_channels
    defaults = InferenceConfig()  # `detect` sets the test-time numbers anew
    return RoIHeads(
        box_roi_pool=MultiScaleRoIAlign(list(ROI_LEVELS), output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(config.fpn_channels * 7 * 7, box.channels),
        box_predictor=FastRCNNPredictor(box.channels, num_labels),
        fg_iou_thresh=box.fg_iou_thresh,
        bg_iou_thresh=box.fg_iou_thresh,
        batch_size_per_image=box.batch_size_per_image,
        positive_fraction=box.positive_fraction,
        bbox_reg_weights=(10.0, 10.0, 5.0, 5.0),
        score_thresh=defaults.score_thresh,
        nms_thresh=defaults.nms_thresh,
        detections_per_img=defaults.detections_per_img,
        mask_roi_pool=MultiScaleRoIAlign(list(ROI_LEVELS), output_size=14, sampling_ratio=2),
        mask_head=MaskRCNNHeads(config.fpn_channels, (wide,) * MASK_LAYERS, dilation=1),
        mask_predictor=MaskRCNNPredictor(wide, wide, num_labels),
    )
