"""A finished run applied to new images, and exported."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports
from crkd.inference.predict import Summary, predict

if TYPE_CHECKING:
    from crkd.inference.export_labels import fiftyone_labels, label_studio_tasks
    from crkd.inference.export_model import Deployed, export
    from crkd.inference.image_files import find_images
    from crkd.inference.table import PredictedImage
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "export_labels": "fiftyone_labels label_studio_tasks",
            "export_model": "Deployed export",
            "image_files": "find_images",
            "table": "PredictedImage",
        },
    )

__all__ = [
    "Deployed",
    "PredictedImage",
    "Summary",
    "export",
    "fiftyone_labels",
    "find_images",
    "label_studio_tasks",
    "predict",
]
