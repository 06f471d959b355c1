"""Stage 2 as a task of the training loop: swapped prediction and distillation terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from crkd.config.schema import Config
from crkd.core.types import Batch, HeadOutputs
from crkd.data.augment.self_mix import self_mix
from crkd.losses.swapped_prediction import swapped_prediction
from crkd.losses.targets import joint_targets
from crkd.losses.term import DistillationInputs
from crkd.models.heads.prototype import NovelHeads
from crkd.models.network import Network, freeze
from crkd.stages.discover.feature_replay import FeatureReplay, classified
from crkd.stages.discover.pseudo_labels import Assigner
from crkd.training.compilation import compiled
from crkd.training.ema import AveragedNetwork
from crkd.training.loss_terms import Terms, context_of
from crkd.training.precision import autocast
from crkd.training.task import Task
from crkd.training.teacher import LiveTeacher, Teacher


class DiscoveryModules(nn.Module):
    """The trained and saved modules of stage 2.

    Args:
        network: the student.
        terms: the distillation terms; some have modules of their own.
        assigner: pseudo-labels of the novel heads.
        over_assigner: the same of the over-clustering heads, if there are any.
        replay: features of known classes without images.
        averaged: running average of the student; None without one.
    """

    head_loss: Tensor
    """Sum of each head's loss since the epoch began, ``(H,)``; the lowest is chosen."""

    def __init__(
        self,
        network: Network,
        terms: Terms,
        assigner: Assigner,
        over_assigner: Assigner | None,
        replay: FeatureReplay | None,
        averaged: AveragedNetwork | None,
    ) -> None:
        super().__init__()
        self.replay = replay
        self.averaged = averaged
        self.network = network
        self.terms = terms
        self.assigner = assigner
        self.over_assigner = over_assigner
        heads = network.novel_heads.num_heads if network.novel_heads is not None else 1
        self.register_buffer("head_loss", torch.zeros(heads, dtype=torch.float64))


class DiscoveryTask(Task):
    """Pseudo-labels by optimal transport, swapped prediction, and the distillation terms.

    Known labels of labeled rows and the images are all it sees: labels of unlabeled rows are
    -1 in every batch.

    Args:
        network: the student, with novel heads.
        teacher_source: the stage-1 network; a frozen copy is the teacher.
        config: the run's configuration.
        device: where it computes.
        num_known: K.
        replay: features of known classes without images.
        shares: ``(K + M,)`` expected shares of all classes among the unlabeled images, which sum to
            one. Pseudo-labels are then over all classes. None: unlabeled images are of novel
            classes alone.

    Raises:
        InputError: a configured term does not exist or does not apply here.
    """

    stage = "discover"
    modules: DiscoveryModules

    def __init__(
        self,
        network: Network,
        teacher_source: Network,
        config: Config,
        device: torch.device,
        *,
        num_known: int,
        replay: FeatureReplay | None = None,
        shares: Tensor | None = None,
    ) -> None:
        self.mixed = shares is not None
        self.config, self.device = config, device
        self.settings = config.discover
        self.teacher_network = freeze(teacher_source).to(device)
        terms = Terms(
            self.settings.distillation,
            stage=self.stage,
            context=context_of(
                network, self.teacher_network, self.teacher_network.known_head, num_known
            ),
            seed=config.seed,
            epochs=self.settings.epochs,
            teacher="stored" if self.settings.stored_epochs else "network",
        )
        assert isinstance(network.novel_heads, NovelHeads)
        assigner = Assigner(network.novel_heads, self.settings.assignment, device, shares=shares)
        over = self._over_assigner(network, device, num_known, shares)
        decay = self.settings.average
        averaged = AveragedNetwork(network, decay) if decay else None
        self.modules = DiscoveryModules(network, terms, assigner, over, replay, averaged).to(device)
        self._maps = "feature_maps" in terms.needs
        # A teacher whose output is used on unlabeled rows alone need not see the others.
        self._unlabeled_only = all(term.rows == {"unlabeled"} for term in terms)
        self._forward = compiled(network, config.loop)
        self.teacher: Teacher = LiveTeacher(
            self.teacher_network, config.loop, maps=self._maps, device=device
        )

    def _over_assigner(
        self, network: Network, device: torch.device, num_known: int, shares: Tensor | None
    ) -> Assigner | None:
        """Return the assigner of the over-clustering heads.

        Given sizes of novel classes say nothing of the finer clusters, and one queue's memory is
        enough. Known classes are not divided: they keep their shares.
        """
        if network.over_heads is None:
            return None
        plain = dataclasses.replace(self.settings.assignment, prior="uniform", queue=0)
        if shares is not None:
            finer = network.over_heads.prototypes.shape[1]
            rest = shares[num_known:].sum() / finer
            shares = torch.cat([shares[:num_known], rest.expand(finer)])
        return Assigner(network.over_heads, plain, device, shares=shares)

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of all terms, and each term for the log."""
        shown, mix = batch, None
        if self.modules.terms.self_mix:
            shown, mix = self_mix(batch, self.modules.terms.self_mix, seed=self.config.seed)
        replay = self.modules.replay
        drawn = None if replay is None else replay()
        with autocast(self.config.loop.precision, self.device):
            student = self._forward(
                shown.views,
                maps=self._maps,
                projections=self.settings.assignment.queue > 0,
                replayed=None if drawn is None else drawn[0],
                shard=batch.shard,
            )
        joint = student.joint_logits()
        num_known = student.known_logits.shape[-1]
        pseudo = self._assign(student, batch)
        per_head = self._swapped(joint, pseudo, batch, num_known)
        named = {"swapped": per_head.mean(), **self._diagnostics(pseudo)}
        if drawn is not None and student.replayed is not None:
            remembered = classified(student.replayed, drawn[1])
            named["replay"] = remembered.mean()
            # Each sample weighs the same, be it an image or a drawn feature.
            share = len(drawn[1]) / (len(drawn[1]) + len(batch.labels))
            per_head = torch.lerp(per_head, remembered, share)
        self.modules.head_loss += per_head.detach()
        loss = per_head.mean()
        if student.over_logits is not None:
            over = self._over_clustering(student, batch, num_known)
            loss = 0.5 * (loss + over)
            named["swapped_over"] = over
        if len(self.modules.terms):
            inputs = self._distillation_inputs(student, batch, pseudo, mix)
            distilled, terms = self.modules.terms(inputs)
            loss = loss + distilled
            named.update(terms)
        return loss, named

    def _assign(self, student: HeadOutputs, batch: Batch) -> Tensor:
        """Return pseudo-labels ``(V_large, H, N, M)`` of the unlabeled rows, or over all C."""
        heads = self.modules.network.novel_heads
        assert isinstance(heads, NovelHeads)
        shown = student.first_views(batch.num_large).rows(batch.num_labeled)
        logits = shown.joint_logits() if self.mixed else shown.novel_logits
        labels: Tensor = self.modules.assigner(logits, heads.prototypes, shown.projections)
        return labels

    def _diagnostics(self, pseudo: Tensor) -> dict[str, Tensor]:
        """Return the assignment's metrics for the log, averaged over views and heads."""
        if pseudo.shape[-2] == 0:
            return {}
        found = self.modules.assigner.diagnostics(pseudo)
        return {f"assign/{name}": value.float().mean() for name, value in found._asdict().items()}

    def _swapped(self, joint: Tensor, pseudo: Tensor, batch: Batch, num_known: int) -> Tensor:
        labels = batch.labels[: batch.num_labeled]
        targets = joint_targets(labels, pseudo, num_known, all_classes=self.mixed)
        return swapped_prediction(joint, targets)

    def _over_clustering(self, student: HeadOutputs, batch: Batch, num_known: int) -> Tensor:
        heads, over_logits = self.modules.network.over_heads, student.over_logits
        assert heads is not None
        assert over_logits is not None
        assert self.modules.over_assigner is not None
        joint = student._replace(novel_logits=over_logits).joint_logits()
        shown = (joint if self.mixed else over_logits)[: batch.num_large, :, batch.num_labeled :]
        pseudo = self.modules.over_assigner(shown, heads.prototypes)
        return self._swapped(joint, pseudo, batch, num_known).mean()

    def _distillation_inputs(
        self, student: HeadOutputs, batch: Batch, assigned: Tensor, mix: Tensor | None
    ) -> DistillationInputs:
        """Run the teacher on the large views, unmixed, of the rows that some term looks at."""
        terms = self.modules.terms
        first = batch.num_labeled if self._unlabeled_only else 0
        pseudo = None
        if "pseudo_labels" in terms.needs:
            first_class = 0 if self.mixed else student.known_logits.shape[-1]
            pseudo = first_choices(batch.labels[: batch.num_labeled], assigned, first_class)
            pseudo = pseudo[..., first:]
        return DistillationInputs(
            student=student.first_views(batch.num_large).rows(first),
            teacher=self.teacher(batch, first) if terms.needs_teacher else None,
            labels=batch.labels[first:],
            num_labeled=batch.num_labeled - first,
            pseudo_labels=pseudo,
            mix=None if mix is None else mix[first:],
        )

    def after_step(self) -> None:
        """Bring the prototypes back to unit length, and the average up to date."""
        self.modules.network.normalize_prototypes()
        if self.modules.averaged is not None:
            self.modules.averaged.update(self.modules.network)

    def final_network(self) -> Network:
        """Return the network for evaluation after training."""
        averaged = self.modules.averaged
        return self.modules.network if averaged is None else averaged.network

    def start_epoch(self, epoch: int) -> None:
        """Reset the sum that chooses the head, as UNO does."""
        self.modules.head_loss.zero_()
        self.resume_epoch(epoch)

    def resume_epoch(self, epoch: int) -> None:
        """Set the epoch of queue and terms; the heads' sums were restored with the weights."""
        self.modules.assigner.set_epoch(epoch)
        self.modules.terms.set_epoch(epoch)

    def remark(self, means: Mapping[str, float]) -> str | None:
        """Return a warning on an assignment that is uniform or has a single class."""
        if means.get("assign/stuck", 0.0) >= 0.5:
            return (
                "the assignment is stuck: samples are spread evenly over all classes; lower "
                "discover.assignment.epsilon, raise discover.optimizer.lr, or check that the "
                "images differ"
            )
        if means.get("assign/collapsed", 0.0) >= 0.5:
            return (
                "the assignment has collapsed: most samples fall into one class; take "
                "discover.assignment.prior=uniform without a relaxation, or lower "
                "discover.optimizer.lr"
            )
        return None

    def chosen_head(self) -> int:
        """Return the head with the lowest loss over the last epoch; no label is involved."""
        return int(self.modules.head_loss.argmin())


def first_choices(labels: Tensor, assigned: Tensor, first_class: int) -> Tensor:
    """Return one class id for every view, head and row, labeled rows first.

    Args:
        labels: ``(L,)`` int64 in ``[0, K)``.
        assigned: ``(V, H, N, M)`` pseudo-labels of the unlabeled rows, or ``(V, H, N, C)``.
        first_class: class of their first column: K, or 0 if they are over all classes.

    Returns:
        ``(V, H, L + N)`` int64 in ``[0, C)``.

    >>> first_choices(torch.tensor([1]), torch.tensor([[[[0.2, 0.8]]]]), 3).tolist()
    [[[1, 4]]]
    """
    found = assigned.argmax(dim=-1) + first_class
    return torch.cat([labels.expand(*found.shape[:2], -1), found], dim=-1)
