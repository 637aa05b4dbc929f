"""Tests in which parts of the network are replaced by the truth: rows 7 to 9 of Table 6.

Shapes: an H x W input; C = S + T classes, I true instances.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from upsnet.config import EvaluationConfig, InferenceConfig
from upsnet.data.categories import CategoryTable
from upsnet.inference.predictor import Predictor
from upsnet.model.network import Network, NetworkOutput
from upsnet.structures import IGNORE, Batch, Detections, GivenInstances, Targets

SURE = 100.0
"""Logit of the true class; the others are 0. Far above what the mask head says, so that it decides alone."""


class OraclePredictor(Predictor):
    """A predictor that is told the true boxes, classes or semantic segmentation of the instances.

    True boxes are all used, without pruning. A true class stays what it is, whatever the semantic mode says.

    Source: UPSNet 4.5, Table 6.
    """

    def __init__(
        self,
        model: Network,
        table: CategoryTable,
        config: InferenceConfig,
        device: torch.device,
        told: EvaluationConfig,
    ) -> None:
        if told.gt_classes:
            config = config.model_copy(update={"class_assignment": "instance"})
        super().__init__(model, table, config, device)
        self.told = told

    def network_outputs(self, batch: Batch) -> list[NetworkOutput]:
        targets = [target.to(self.device) for target in batch.targets]
        given = [GivenInstances(t.boxes, t.labels, self.told.gt_boxes, self.told.gt_classes) for t in targets]
        outputs = self._run(batch, given)
        if not self.told.gt_semantic:
            return outputs
        return [
            replace(output, semantic_logits=true_logits(target, self.table.num_classes), stride=1)
            for output, target in zip(outputs, targets, strict=True)
        ]

    def instances(self, output: NetworkOutput) -> Detections:
        return output.detections if self.told.gt_boxes else super().instances(output)


def predictor_for(
    model: Network,
    table: CategoryTable,
    config: InferenceConfig,
    device: torch.device,
    evaluation: EvaluationConfig,
) -> Predictor:
    """The predictor that an evaluation asks for: an ordinary one, or one that is told parts of the truth."""
    if evaluation.gt_boxes or evaluation.gt_classes or evaluation.gt_semantic:
        return OraclePredictor(model, table, config, device, evaluation)
    return Predictor(model, table, config, device)


def true_logits(target: Targets, num_classes: int) -> Tensor:
    """(C, H, W) semantic logits that say the truth; void pixels are 0 for every class."""
    known = target.semantic_map != IGNORE
    class_ids = torch.where(known, target.semantic_map, 0).long()
    logits = F.one_hot(class_ids, num_classes).permute(2, 0, 1) * known
    return SURE * logits.float()
