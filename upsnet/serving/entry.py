"""The file that MLflow stores with the model and runs to load it ("models from code": nothing is pickled)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from upsnet.errors import DataError
from upsnet.serving.model import ServedModel


class NotAnImage(MlflowException):
    """Refuses a request. Its message stays: the server would put the whole request before it, megabytes."""

    @property
    def message(self) -> str:
        """The first that was set."""
        return self._message

    @message.setter
    def message(self, text: str) -> None:
        self._message = getattr(self, "_message", text)


class PanopticModel(PythonModel):
    """What `mlflow models serve` and `mlflow.pyfunc.load_model` speak to."""

    def load_context(self, context: Any) -> None:
        """Loads the checkpoint that was stored with the model."""
        self._served = ServedModel(Path(context.artifacts["checkpoint"]))

    def predict(
        self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Segments of the images in the column `image`.

        Args:
            context: of MLflow.
            model_input: data frame; `image` is the base64 of a JPEG or PNG file, or an allowed address.
            params: none are known.

        Raises:
            NotAnImage: a row is no image, which a server answers with status 400.
        """
        try:
            return self._served.answer(list(model_input["image"]))
        except DataError as error:
            raise NotAnImage(str(error), error_code=INVALID_PARAMETER_VALUE) from error


set_model(PanopticModel())
