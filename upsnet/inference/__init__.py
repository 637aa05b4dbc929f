"""From network outputs to a panoptic map: pruning, class assignment, the predictor."""
