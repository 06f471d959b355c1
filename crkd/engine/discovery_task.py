"""Stage 2 as a task of the training loop: swapped prediction and distillation terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from crkd.config.schema import Config
from crkd.core.types import Batch, HeadOutputs
from crkd.engine.assigner import Assigner
from crkd.engine.precision import autocast
from crkd.engine.teacher import LiveTeacher, Teacher, needs_of
from crkd.losses.swapped_prediction import swapped_prediction
from crkd.losses.targets import joint_targets
from crkd.losses.term import DistillationInputs, DistillationTerm, TermContext, build_term
from crkd.models.backbone import seeded
from crkd.models.network import Network, freeze

TERM_SEED = 1_000_003
"""Keeps the initial weights of the terms apart from each other and from neighbouring seeds."""


class DiscoveryModules(nn.Module):
    """What stage 2 trains or saves.

    Args:
        network: the student.
        terms: the distillation terms; some have modules of their own.
        assigner: pseudo-labels of the novel heads.
        over_assigner: the same of the over-clustering heads, if there are any.
    """

    head_loss: Tensor
    """Sum of each head's loss since the epoch began, ``(H,)``; the lowest is chosen."""

    def __init__(
        self,
        network: Network,
        terms: list[DistillationTerm],
        assigner: Assigner,
        over_assigner: Assigner | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.terms = nn.ModuleList(terms)
        self.assigner = assigner
        self.over_assigner = over_assigner
        heads = network.novel_heads.num_heads if network.novel_heads is not None else 1
        self.register_buffer("head_loss", torch.zeros(heads, dtype=torch.float64))


class DiscoveryTask:
    """Pseudo-labels by optimal transport, swapped prediction, and the distillation terms.

    Known labels of labelled rows and the images are all it sees: labels of unlabelled rows are
    -1 in every batch.

    Args:
        network: the student, with novel heads.
        teacher_source: the stage-1 network; a frozen copy is the teacher.
        config: the run's configuration.
        device: where it computes.
        num_known: K.

    Raises:
        InputError: a configured term does not exist or does not apply here.
    """

    stage = "discover"

    def __init__(
        self,
        network: Network,
        teacher_source: Network,
        config: Config,
        device: torch.device,
        *,
        num_known: int,
    ) -> None:
        self.config, self.device = config, device
        self.settings = config.discover
        self.teacher_network = freeze(teacher_source).to(device)
        context = TermContext(
            num_known=num_known,
            student_features=network.backbone.num_features,
            teacher_features=teacher_source.backbone.num_features,
            student_channels=network.backbone.map_channels,
            teacher_channels=teacher_source.backbone.map_channels,
            teacher_head=self.teacher_network.known_head,
        )
        terms = []
        for number, wanted in enumerate(self.settings.distillation):
            # A stream of its own for each: adding a term leaves the others' weights as they were.
            with seeded(config.seed + TERM_SEED * (number + 1)):
                term = build_term(
                    wanted.name, stage="discover", context=context, options=wanted.options
                )
            terms.append(term)
        assert network.novel_heads is not None
        assigner = Assigner(network.novel_heads, self.settings.assignment, device)
        over = self._over_assigner(network, device)
        self.modules = DiscoveryModules(network, terms, assigner, over).to(device)
        needs = needs_of(terms)
        self._maps = "feature_maps" in needs
        self._needs_teacher = bool(needs & {"teacher_logits", "feature_maps"})
        # A teacher whose output is used on unlabelled rows alone need not see the others.
        self._unlabelled_only = all(term.rows == {"unlabelled"} for term in terms)
        self._forward = torch.compile(network) if config.loop.compile else network
        self.teacher: Teacher = LiveTeacher(
            self.teacher_network, config.loop, maps=self._maps, device=device
        )

    def _over_assigner(self, network: Network, device: torch.device) -> Assigner | None:
        """Return the assigner of the over-clustering heads.

        Known class sizes say nothing of the finer clusters, and one queue's memory is enough.
        """
        if network.over_heads is None:
            return None
        plain = dataclasses.replace(self.settings.assignment, prior="uniform", queue=0)
        return Assigner(network.over_heads, plain, device)

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of all terms, and each term for the log."""
        with autocast(self.config.loop.precision, self.device):
            student = self._forward(
                batch.views, maps=self._maps, projections=self.settings.assignment.queue > 0
            )
        joint = Network.joint_logits(student)
        num_known = student.known_logits.shape[-1]
        pseudo = self._assign(student, batch)
        per_head = self._swapped(joint, pseudo, batch, num_known)
        self.modules.head_loss += per_head.detach()
        loss = per_head.mean()
        named = {"swapped": loss, **self._diagnostics(pseudo)}
        if student.over_logits is not None:
            over = self._over_clustering(student, batch, num_known)
            loss = 0.5 * (loss + over)
            named["swapped_over"] = over
        if self.modules.terms:
            inputs = self._distillation_inputs(student, batch)
            for settings, term in zip(self.settings.distillation, self.modules.terms, strict=True):
                raw = term(inputs)
                loss = loss + settings.weight * raw
                label = settings.name
                while label in named:
                    label += "'"
                named[label] = raw
                named[f"{label}_weighted"] = settings.weight * raw
        return loss, named

    def _assign(self, student: HeadOutputs, batch: Batch) -> Tensor:
        """Return pseudo-labels ``(V_large, H, N, M)`` of the unlabelled rows."""
        heads = self.modules.network.novel_heads
        assert heads is not None
        shown = student.first_views(batch.num_large).rows(batch.num_labelled)
        assert shown.novel_logits is not None
        labels: Tensor = self.modules.assigner(
            shown.novel_logits, heads.prototypes, shown.projections
        )
        return labels

    def _diagnostics(self, pseudo: Tensor) -> dict[str, Tensor]:
        """Return the assignment's figures for the log, averaged over views and heads."""
        if pseudo.shape[-2] == 0:
            return {}
        found = self.modules.assigner.diagnostics(pseudo)
        return {f"assign/{name}": value.float().mean() for name, value in found._asdict().items()}

    def _swapped(self, joint: Tensor, pseudo: Tensor, batch: Batch, num_known: int) -> Tensor:
        targets = joint_targets(batch.labels[: batch.num_labelled], pseudo, num_known)
        return swapped_prediction(joint, targets)

    def _over_clustering(self, student: HeadOutputs, batch: Batch, num_known: int) -> Tensor:
        heads, over_logits = self.modules.network.over_heads, student.over_logits
        assert heads is not None
        assert over_logits is not None
        assert self.modules.over_assigner is not None
        joint = Network.joint_logits(student._replace(novel_logits=over_logits))
        shown = over_logits[: batch.num_large, :, batch.num_labelled :]
        pseudo = self.modules.over_assigner(shown, heads.prototypes)
        return self._swapped(joint, pseudo, batch, num_known).mean()

    def _distillation_inputs(self, student: HeadOutputs, batch: Batch) -> DistillationInputs:
        """Run the teacher on the large views of the rows that some term looks at."""
        first = batch.num_labelled if self._unlabelled_only else 0
        return DistillationInputs(
            student=student.first_views(batch.num_large).rows(first),
            teacher=self.teacher(batch, first) if self._needs_teacher else None,
            labels=batch.labels[first:],
            num_labelled=batch.num_labelled - first,
        )

    def after_step(self) -> None:
        """Bring the prototypes back to unit length."""
        self.modules.network.normalise_prototypes()

    def start_epoch(self, epoch: int) -> None:
        """Begin the sum by which a head is chosen anew, as UNO does."""
        self.modules.head_loss.zero_()
        self.modules.assigner.set_epoch(epoch)

    def resume_epoch(self, epoch: int) -> None:
        """Let the queue know the epoch; the heads' sums were restored with the weights."""
        self.modules.assigner.set_epoch(epoch)

    def remark(self, means: Mapping[str, float]) -> str | None:
        """Say so when most assignments spread their samples evenly: nothing is learnt then."""
        if means.get("assign/stuck", 0.0) < 0.5:
            return None
        return (
            "the assignment is stuck: samples are spread evenly over all novel classes; lower "
            "discover.assignment.epsilon, raise discover.optimiser.lr, or check that the images "
            "differ"
        )

    def chosen_head(self) -> int:
        """Return the head with the lowest loss over the last epoch; no label is involved."""
        return int(self.modules.head_loss.argmin())
