"""Run by `test_evaluator.py` under horovodrun: evaluates prepared data as one of several workers.

Arguments: the prepared data, the folder to write to.
"""

import sys
from pathlib import Path

from tests.evaluation.predictors import OraclePredictor
from tests.evaluation.test_evaluator import CONFIG
from upsnet import distributed
from upsnet.data.shards import PreparedData
from upsnet.evaluation.evaluator import evaluate

if __name__ == "__main__":
    distributed.init()
    assert distributed.world_size() == 2
    prepared = PreparedData(Path(sys.argv[1]))
    metrics = evaluate(OraclePredictor(prepared, shift=2), prepared, CONFIG, Path(sys.argv[2]))
    assert metrics["images"] == 6  # on every rank
