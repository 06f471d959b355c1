"""Configuration of a run: the typed schema, and its loading from files and flags."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.config.blocks import (
        DataConfig,
        LoopConfig,
        ModelConfig,
        OptimizerConfig,
        TermConfig,
        VectorConfig,
        ViewConfig,
    )
    from crkd.config.experiments import (
        Expectation,
        Experiment,
        experiment_config,
        experiment_names,
        find_experiment,
        load_experiment,
    )
    from crkd.config.load import dump_config, find_config, load_config
    from crkd.config.schema import (
        AssignmentConfig,
        Config,
        DiscoverConfig,
        DistillConfig,
        EvaluationConfig,
        PretrainConfig,
        ReplayConfig,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "blocks": (
                "DataConfig LoopConfig ModelConfig OptimizerConfig TermConfig VectorConfig "
                "ViewConfig"
            ),
            "experiments": (
                "Expectation Experiment experiment_config experiment_names find_experiment "
                "load_experiment"
            ),
            "load": "dump_config find_config load_config",
            "schema": (
                "AssignmentConfig Config DiscoverConfig DistillConfig EvaluationConfig "
                "PretrainConfig ReplayConfig"
            ),
        },
    )

__all__ = [
    "AssignmentConfig",
    "Config",
    "DataConfig",
    "DiscoverConfig",
    "DistillConfig",
    "EvaluationConfig",
    "Expectation",
    "Experiment",
    "LoopConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PretrainConfig",
    "ReplayConfig",
    "TermConfig",
    "VectorConfig",
    "ViewConfig",
    "dump_config",
    "experiment_config",
    "experiment_names",
    "find_config",
    "find_experiment",
    "load_config",
    "load_experiment",
]
