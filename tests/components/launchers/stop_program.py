"""A pipeline step for the tests of signals: launches the small job, and says how that ends.

python -m tests.components.launchers.stop_program
"""

import logging
import sys

from components.launchers import LaunchError
from components.launchers.mpijob import MpiJobLauncher
from tests.components.launchers.conftest import QUICK, STEP
from tests.components.launchers.jobs import small_job

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        MpiJobLauncher(QUICK, STEP).run(small_job())
    except LaunchError as error:
        sys.exit(f"error: {error}")
