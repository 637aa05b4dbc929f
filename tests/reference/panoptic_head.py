"""The panoptic head by its definition: the whole tensor Z, filled pixel by pixel, then its argmax."""

import numpy as np
import torch
import torch.nn.functional as F


def dense_panoptic(semantic_logits, num_stuff, boxes, labels, mask_logits, unknown):
    """Returns Z (S + I + 1, H, W) as float32 numpy, and its argmax with ties to the lower channel.

    All inputs are at the input size; `semantic_logits` is (S + T, H, W).
    """
    x = semantic_logits.numpy()
    num_classes, height, width = x.shape
    count = len(boxes)
    x_mask = np.zeros((count, height, width), np.float32)
    y_mask = np.zeros((count, height, width), np.float32)
    for i in range(count):
        x1, y1, x2, y2 = (float(v) for v in boxes[i])
        x0, y0 = min(max(int(np.floor(x1)), 0), width - 1), min(max(int(np.floor(y1)), 0), height - 1)
        x_end = max(min(int(np.ceil(x2)), width), x0 + 1)
        y_end = max(min(int(np.ceil(y2)), height), y0 + 1)
        size = (y_end - y0, x_end - x0)
        y = F.interpolate(mask_logits[i][None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        for row in range(y0, y_end):
            for column in range(x0, x_end):
                x_mask[i, row, column] = x[num_stuff + int(labels[i]) - 1, row, column]
                y_mask[i, row, column] = y[row - y0, column - x0]
    parts = [x[:num_stuff], x_mask + y_mask]
    if unknown and num_classes > num_stuff:
        over_instances = x_mask.max(axis=0) if count else np.zeros((height, width), np.float32)
        parts.append((x[num_stuff:].max(axis=0) - over_instances)[None])
    z = np.concatenate(parts)
    return z, torch.from_numpy(z.argmax(axis=0) if len(z) else np.zeros((height, width), np.int64))
