"""Imports what training runs and commands import; the server of forks does so once."""

from __future__ import annotations

import importlib

from PIL import Image

from crkd.data.datasets.base import DATASETS
from crkd.losses.term import TERMS
from crkd.models.backbones.base import BACKBONES
from crkd.models.pretrained.base import PRETRAINED
from crkd.ot.problem import BACKENDS
from crkd.training.loggers.base import LOGS
from tests.support.unforced import spare_the_disk

MODULES = (
    "crkd.clustering.kmeans",
    "crkd.commands.bench",
    "crkd.commands.check_gpu",
    "crkd.commands.predict",
    "crkd.commands.pretrain",
    "crkd.commands.reproduce",
    "crkd.evaluation",
    "crkd.inference.predict",
    "crkd.inference.watching.watcher",
    "crkd.review.unknown_images",
    "crkd.stages.discover.run",
    "crkd.stages.distill.run",
    "crkd.embedding.run",
    "crkd.stages.reproduce",
    "crkd.stages.vectors.run",
    "faiss",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "pyarrow.parquet",
    "scipy.special",
    "sklearn.cluster",
    "sklearn.datasets",
    "sklearn.linear_model",
    "tests.support.forked",
    "timm",
    "torch._dynamo",
    "torch.distributed.run",
    "torch.utils.tensorboard",
    "torchvision",
)

for _name in MODULES:
    importlib.import_module(_name)
Image.init()
spare_the_disk()
for _registry in (BACKBONES, BACKENDS, DATASETS, LOGS, PRETRAINED, TERMS):
    # The first look-up imports the modules of the entries.
    _registry.names()
