"""The stages: pretraining, discovery, distillation, baselines; each assembles a training run."""
