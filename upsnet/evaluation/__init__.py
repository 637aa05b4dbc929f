"""PQ, mIoU and AP, and the evaluator that runs a validation set."""
