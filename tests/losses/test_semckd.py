from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.semckd import SemCKD, similarity_quantiles
from crkd.losses.term import DistillationInputs, TermContext, build_term

Maps = list[list[np.ndarray]]

STUDENT = ((2, 4), (3, 2))  # channels and side of each stage
TEACHER = ((3, 4), (2, 3))  # 4 to 3 does not divide
CHANNELS = ((2, 3), (3, 2))


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small gain nothing from a second thread, and would wait for it on a busy CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_maps(shapes: tuple, views: int = 2, rows: int = 3, seed: int = 0) -> Maps:
    """Per view, per stage; after a ReLU, as the maps of a ResNet are."""
    rng = np.random.default_rng(seed)
    return [
        [np.maximum(rng.normal(0.3, 1, (rows, c, side, side)), 0) for c, side in shapes]
        for _ in range(views)
    ]


def outputs(maps: list[list[torch.Tensor]]) -> HeadOutputs:
    views, rows = len(maps), len(maps[0][0])
    return HeadOutputs(
        torch.zeros(views, rows, 1),
        torch.zeros(views, rows, 2),
        maps=tuple(tuple(stages) for stages in maps),
    )


def leaves(maps: Maps, dtype: torch.dtype = torch.float64) -> list[list[torch.Tensor]]:
    return [[torch.tensor(m, dtype=dtype, requires_grad=True) for m in view] for view in maps]


def make_term(**options: object) -> SemCKD:
    torch.manual_seed(3)
    term = SemCKD(*CHANNELS, **{"levels": 5, "width": 4, **options}).double()
    with torch.no_grad():  # norms that are not the identity
        for name, parameter in term.named_parameters():
            if "projectors" in name and parameter.ndim == 1:
                parameter.add_(torch.rand_like(parameter) - 0.5)
    return term


def call(term: SemCKD, student: list, teacher: list) -> torch.Tensor:
    return term(DistillationInputs(outputs(student), outputs(teacher)))


# --- the formula, written out in numpy -----------------------------------------------------------


def pooled(maps: np.ndarray, side: int) -> np.ndarray:
    n = maps.shape[-1]
    out = np.zeros((*maps.shape[:2], side, side))
    for y, x in np.ndindex(side, side):
        rows = slice(y * n // side, -(-(y + 1) * n // side))
        columns = slice(x * n // side, -(-(x + 1) * n // side))
        out[:, :, y, x] = maps[:, :, rows, columns].mean((2, 3))
    return out


def convolved(maps: np.ndarray, weight: np.ndarray) -> np.ndarray:
    n, _, height, width = maps.shape
    k = weight.shape[-1]
    padded = np.pad(maps, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.zeros((n, len(weight), height, width))
    for dy, dx in np.ndindex(k, k):
        window = padded[:, :, dy : dy + height, dx : dx + width]
        out += np.einsum("oc,nchw->nohw", weight[:, :, dy, dx], window)
    return out


def normed(maps: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    mean, variance = maps.mean((0, 2, 3), keepdims=True), maps.var((0, 2, 3), keepdims=True)
    shape = (1, -1, 1, 1)
    return (maps - mean) / np.sqrt(variance + 1e-5) * weight.reshape(shape) + bias.reshape(shape)


def projected(maps: np.ndarray, p: dict[str, np.ndarray], pair: int) -> np.ndarray:
    def of(index: int, kind: str = "weight") -> np.ndarray:
        return p[f"projectors.{pair}.{index}.{kind}"]

    hidden = np.maximum(normed(convolved(maps, of(0)), of(1), of(1, "bias")), 0)
    hidden = np.maximum(normed(convolved(hidden, of(3)), of(4), of(4, "bias")), 0)
    return convolved(hidden, of(6))


def quantiles(maps: np.ndarray, levels: int) -> np.ndarray:
    flat = maps.reshape(len(maps), -1)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    return np.stack([np.quantile(row, np.linspace(0, 1, levels)) for row in unit @ unit.T])


def embedded(rows: np.ndarray, p: dict[str, np.ndarray], name: str) -> np.ndarray:
    hidden = np.maximum(rows @ p[f"{name}.0.weight"].T + p[f"{name}.0.bias"], 0)
    out = hidden @ p[f"{name}.2.weight"].T + p[f"{name}.2.bias"]
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def formula(student: Maps, teacher: Maps, p: dict[str, np.ndarray], s: float = 1.0) -> float:
    views, rows, levels = len(student), len(student[0][0]), p["queries.0.0.weight"].shape[1]
    together = [np.concatenate([view[i] for view in student]) for i in range(len(student[0]))]
    total = 0.0
    for v in range(views):
        for i, ours in enumerate(student[v]):
            query = embedded(quantiles(ours, levels), p, f"queries.{i}")
            scores, distances = [], []
            for j, theirs in enumerate(teacher[v]):
                key = embedded(quantiles(theirs, levels), p, f"keys.{j}")
                scores.append((query * key).sum(1) / s)
                side = min(ours.shape[-1], theirs.shape[-1])
                guess = projected(pooled(together[i], side), p, i * len(teacher[v]) + j)
                guess = guess[v * rows : (v + 1) * rows]
                distances.append(((guess - pooled(theirs, side)) ** 2).mean((1, 2, 3)))
            weight = np.exp(np.stack(scores))
            total += (weight / weight.sum(0) * np.stack(distances)).sum()
    return total / (views * rows * len(student[0]))


def numbers(term: SemCKD) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in term.named_parameters()}


@pytest.mark.parametrize("temperature", [1.0, 0.2])
@pytest.mark.parametrize("rows", [3, 8])
def test_value_against_the_formula(temperature: float, rows: int):
    student, teacher = random_maps(STUDENT, rows=rows), random_maps(TEACHER, rows=rows, seed=1)
    term = make_term(temperature=temperature)
    expected = formula(student, teacher, numbers(term), temperature)
    assert call(term, leaves(student), leaves(teacher)).item() == pytest.approx(expected, rel=1e-10)


def test_gradient_against_finite_differences():
    student, teacher = random_maps(STUDENT), random_maps(TEACHER, seed=1)
    term, ours = make_term(), leaves(student)
    call(term, ours, leaves(teacher)).backward()
    parameters, step, rng = numbers(term), 1e-6, np.random.default_rng(0)

    def slope(array: np.ndarray, index: tuple) -> float:
        kept, values = array[index], []
        for change in (step, -step):
            array[index] = kept + change
            values.append(formula(student, teacher, parameters))
        array[index] = kept
        return (values[0] - values[1]) / (2 * step)

    for array, grad in [(student[v][i], ours[v][i].grad) for v in range(2) for i in range(2)]:
        for index in rng.choice(array.size, min(array.size, 4), replace=False):
            place = np.unravel_index(index, array.shape)
            if array is student[0][0] and array[place] == 0:
                continue
            assert grad[place].item() == pytest.approx(slope(array, place), abs=1e-7)
    for name, parameter in term.named_parameters():
        # All entries of a parameter at once, in a direction of one up or one down for each.
        signs, kept, values = rng.choice([-1.0, 1.0], parameter.shape), parameters[name], []
        for change in (step, -step):
            parameters[name] = kept + change * signs
            values.append(formula(student, teacher, parameters))
        parameters[name] = kept
        found = (parameter.grad.numpy() * signs).sum()
        assert found == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-7), name


# --- independence of the batch -------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_quantiles_of_any_number_of_samples(rows: int):
    maps = random_maps(((4, 3),), views=2, rows=rows)
    ours = similarity_quantiles(torch.tensor(np.concatenate([v[0] for v in maps])), 2, 7)
    expected = np.stack([quantiles(view[0], 7) for view in maps])
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)
    assert ours[..., -1].numpy() == pytest.approx(1.0)  # the sample itself


def test_two_batch_sizes_in_a_row_train_the_same_modules():
    term = make_term()
    for rows in (6, 3):
        loss = call(
            term, leaves(random_maps(STUDENT, rows=rows)), leaves(random_maps(TEACHER, rows=rows))
        )
        term.zero_grad()
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.any() for p in term.parameters())


def test_the_order_of_samples_does_not_matter():
    term = make_term()
    student, teacher = random_maps(STUDENT, rows=6), random_maps(TEACHER, rows=6, seed=1)
    order = np.random.default_rng(0).permutation(6)

    def turned(maps: Maps) -> Maps:
        return [[m[order] for m in view] for view in maps]

    plain = call(term, leaves(student), leaves(teacher))
    other = call(term, leaves(turned(student)), leaves(turned(teacher)))
    assert other.item() == pytest.approx(plain.item(), rel=1e-12)


def test_the_scale_of_a_map_does_not_reach_the_attention():
    term = make_term()
    student = [torch.tensor(m) for m in random_maps(STUDENT, views=1, rows=5)[0]]
    teacher = [torch.tensor(m) for m in random_maps(TEACHER, views=1, rows=5)[0]]
    plain = term.attention(student, teacher, 1)
    scaled = term.attention([1e3 * m for m in student], teacher, 1)
    torch.testing.assert_close(scaled, plain)
    torch.testing.assert_close(plain.sum(-1), torch.ones(1, 5, 2, dtype=torch.float64))


# --- behavior -----------------------------------------------------------------------------------


def identity_term(stages: int, **options: object) -> SemCKD:
    torch.manual_seed(0)
    term = SemCKD((2,) * stages, (2,) * stages, levels=8, width=8, **options).double()
    term.projectors = nn.ModuleList(nn.Identity() for _ in range(stages**2))
    return term


def test_one_layer_projected_onto_the_teachers_costs_nothing():
    maps = random_maps(((2, 4),))
    ours = leaves(maps)
    loss = call(identity_term(1), ours, leaves(maps))
    loss.backward()
    assert loss.item() == 0
    assert not ours[0][0].grad.any()


def test_attention_turns_to_the_layer_that_is_easier_to_match():
    maps = random_maps(((2, 4), (2, 4)), views=1, rows=16)
    maps[0][1] = np.abs(maps[0][1] - 0.2)
    term = identity_term(2, temperature=0.1)
    optimizer = torch.optim.Adam(term.parameters(), lr=0.03)
    for _ in range(20):
        loss = call(term, leaves(maps), leaves(maps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tensors = [torch.tensor(m) for m in maps[0]]
    attention = term.attention(tensors, tensors, 1).mean(dim=(0, 1))
    assert attention.diagonal().min() > 0.9


def test_huge_and_silent_maps_are_finite():
    student, teacher = random_maps(STUDENT), random_maps(TEACHER)
    student[0][0][0] = 0
    student[0][1] *= 1e15
    ours, term = leaves(student, torch.float32), make_term().float()
    loss = call(term, ours, leaves(teacher, torch.float32))
    loss.backward()
    assert loss.isfinite()
    assert all(m.grad.isfinite().all() for view in ours for m in view)
    assert ours[0][0].grad.abs().max() < 1e4


# --- how it is made ------------------------------------------------------------------------------


def context(**channels: tuple[int, ...]) -> TermContext:
    shapes = {"student_channels": (4, 8), "teacher_channels": (4, 8, 16), **channels}
    return TermContext(num_known=3, student_features=8, teacher_features=16, **shapes)


@pytest.mark.parametrize("stage", ["discover", "distill"])
def test_it_is_made_for_two_networks(stage: str):
    term = build_term("semckd", stage=stage, context=context(), options={"width": 5})
    assert [len(term.queries), len(term.keys), len(term.projectors)] == [2, 3, 6]
    last = term.projectors[5]
    assert last[0].weight.shape == (32, 8, 1, 1)
    assert last[6].weight.shape == (16, 32, 1, 1)
    assert term.queries[0][2].weight.shape == (5, 10)


def test_the_projectors_are_the_releases():
    """resnet32x4 to resnet8x4: 10.22 million parameters."""
    term = SemCKD((64, 128, 256), (64, 128, 256))
    assert round(sum(p.numel() for p in term.projectors.parameters()) / 1e6, 2) == 10.22


def test_a_backbone_without_maps_is_named():
    with pytest.raises(InputError, match="teacher's backbone has 0 feature maps"):
        build_term("semckd", stage="discover", context=context(teacher_channels=()))


@pytest.mark.parametrize(
    ("option", "value"),
    [("levels", 1), ("width", 0), ("temperature", 0.0), ("temperature", math.nan)],
)
def test_options_out_of_range_are_named(option: str, value: float):
    with pytest.raises(InputError, match=f"semckd: {option} is {value}"):
        SemCKD(*CHANNELS, **{option: value})


def test_absent_maps_are_a_programming_error():
    maps = leaves(random_maps(STUDENT))
    empty = HeadOutputs(torch.zeros(2, 3, 1), torch.zeros(2, 3, 2))
    with pytest.raises(RuntimeError, match="without maps"):
        make_term()(DistillationInputs(outputs(maps), empty))


def test_maps_in_float64_are_converted_to_the_weights():
    found, wanted = (
        call(
            make_term().float(),
            leaves(random_maps(STUDENT), dtype),
            leaves(random_maps(TEACHER, seed=1), dtype),
        )
        for dtype in (torch.float64, torch.float32)
    )
    torch.testing.assert_close(found.float(), wanted, rtol=1e-5, atol=0.0)
