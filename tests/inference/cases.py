"""Hand-made detections for the tests of both merges."""

import torch

from upsnet.structures import Detections


def detections(*rows) -> Detections:
    """Rows of (box, score, label[, filled fraction of the mask from the top])."""
    masks = torch.full((len(rows), 28, 28), -5.0)
    for mask, row in zip(masks, rows, strict=True):
        mask[: round(28 * (row[3] if len(row) > 3 else 1.0))] = 5.0
    return Detections(
        torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([row[1] for row in rows], dtype=torch.float32),
        torch.tensor([row[2] for row in rows], dtype=torch.int64),
        masks,
    )
