"""Any timm model with its published weights: from the hub's cache, a file, or a download."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from torch import nn

from crkd.core.errors import InputError
from crkd.models.pretrained.base import INTERPOLATIONS, Preprocessing, PretrainedBackbone
from crkd.models.weights import read_weights

FLAG: Final = "--backbone-weights"
_SAFE: Final = "model.safetensors"
_PICKLED: Final = "pytorch_model.bin"


def timm_backbone(
    name: str,
    *,
    weights: Path | None = None,
    image_size: int | None = None,
    download: bool = False,
) -> PretrainedBackbone:
    """Return a timm model without its classifier, with pretrained weights.

    Args:
        name: as ``timm.list_pretrained()`` prints it, such as "vit_small_patch14_dinov2.lvd142m".
        weights: a safetensors file or a torch file of tensors; None looks into the cache of the
            Hugging Face hub.
        image_size: side of the input in pixels; None takes what the weights declare.
        download: fetch weights that are neither given nor in the cache.

    Raises:
        InputError: timm has no such model, there are no weights, or they do not fit.
    """
    import timm

    if not timm.is_model(name):
        raise InputError(
            f"--backbone {name!r} is neither registered nor a timm model nor an ONNX file; "
            "`python -c 'import timm; print(timm.list_pretrained())'` prints timm's names"
        )
    path = weights or _published(name, download=download)
    network = _loaded(name, path, image_size)
    preprocessing = _preprocessing(network, image_size)
    return PretrainedBackbone(
        name=name,
        weights_sha256=sha256_of(path),
        preprocessing=preprocessing,
        num_features=int(getattr(network, "head_hidden_size", None) or network.num_features),
        network=network.eval().requires_grad_(False),
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _published(name: str, *, download: bool) -> Path:
    """Return the published weight file of a timm model, from the cache if it is there."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    repository = getattr(config, "hf_hub_id", None)
    if not repository or getattr(config, "custom_load", False):
        raise InputError(
            f"timm knows no weights of {name!r} on the Hugging Face hub; give a local file with "
            f"{FLAG} FILE, or another --backbone"
        )
    repository, _, revision = str(repository).partition("@")
    named = getattr(config, "hf_hub_filename", None)
    files = [_safe(named), named] if named else [_SAFE, _PICKLED]
    for file in files:
        found = try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    if download:
        return _fetched(repository, files, revision or None)
    raise InputError(
        f"the weights of --backbone {name!r} are not in the cache of the Hugging Face hub; add "
        f"--download to fetch {repository}, or give a local file with {FLAG} FILE"
    )


def _safe(file: str) -> str:
    """Return the name of the safetensors file that the hub keeps for a pickled one."""
    named = {
        _PICKLED: _SAFE,
        "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
    }
    return named.get(file) or str(Path(file).with_suffix(".safetensors"))


def _fetched(repository: str, files: list[str], revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for file in files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except EntryNotFoundError:
            continue
        except Exception as error:  # networks fail in many ways; each error becomes one sentence
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"--download: cannot fetch {file} of {repository} ({reason}); check the network, "
                f"or give a local file with {FLAG} FILE"
            ) from error
    raise InputError(
        f"--download: {repository} has none of the files {', '.join(files)}; give a local file "
        f"with {FLAG} FILE"
    )


def _loaded(name: str, path: Path, image_size: int | None) -> Any:
    """Return the timm model with the weights of a file, every tensor of it, without classifier."""
    import timm

    tensors = read_weights(path, FLAG)
    # A transformer is made for one side; a convolutional network takes any and knows no such word.
    choices: list[dict[str, Any]] = [{}] if image_size is None else [{"img_size": image_size}, {}]
    for choice in choices:
        try:
            network: nn.Module = timm.create_model(
                name,
                pretrained=True,
                pretrained_cfg_overlay={"state_dict": dict(tensors), "custom_load": False},
                **choice,
            )
        except TypeError:
            if choice:
                continue
            raise
        # Whatever does not fit makes timm raise one of several kinds of error.
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError(
                f"the weights {path} do not fit --backbone {name!r} ({reason}); give the file "
                "that was published for this model"
            ) from error
        network.reset_classifier(0)  # type: ignore[operator]
        return network
    raise AssertionError("the last choice has no word to refuse")


def _preprocessing(network: Any, image_size: int | None) -> Preprocessing:
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(network)
    interpolation = str(config["interpolation"])
    return Preprocessing(
        image_size=image_size or int(config["input_size"][-1]),
        interpolation=interpolation if interpolation in INTERPOLATIONS else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
