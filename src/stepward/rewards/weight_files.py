"""WeightFiles: single tensors and rows out of a checkpoint's weight files, without loading the rest. What they are for is decided elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from stepward.core import InputError

_EXTRA_FILES = {"reward_head.pt": "reward_head.", "value_head.bin": "v_head.", "value_head.safetensors": "v_head."}


def json_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises: OSError where there is no file; ValueError where it holds something else.
    """
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} holds no JSON object")
    return found


class Weights(Protocol):
    """Named tensors of a checkpoint."""

    @property
    def names(self) -> frozenset[str]: ...

    def tensor(self, name: str) -> Tensor: ...

    def rows(self, name: str, indices: Sequence[int]) -> Tensor: ...


class WeightFiles:
    """The tensors in a folder: safetensors or PyTorch files, in one piece or sharded, and heads that lie in a small file of their own.

    PyTorch files are read with `weights_only=True`, so that none of their content runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def names(self) -> frozenset[str]:
        """Every tensor's name, as the files have it."""
        return frozenset(self._places)

    @property
    def found(self) -> bool:
        """Whether there are weight files at all."""
        return bool(self._places)

    def tensor(self, name: str) -> Tensor:
        """A whole tensor, on the CPU and in the files' number format."""
        file, inner = self._places[name]
        if file.suffix == ".safetensors":
            with self._open(file) as stream:
                return stream.get_tensor(inner)  # type: ignore[no-any-return]
        return self._torch_file(file)[inner]

    def rows(self, name: str, indices: Sequence[int]) -> Tensor:
        """Some rows of a matrix, in order; only these are read where the format allows it."""
        file, inner = self._places[name]
        if file.suffix == ".safetensors":
            with self._open(file) as stream:
                part = stream.get_slice(inner)
                return torch.cat([part[index : index + 1] for index in indices])
        return self._torch_file(file)[inner][list(indices)].clone()

    @cached_property
    def _places(self) -> dict[str, tuple[Path, str]]:
        places: dict[str, tuple[Path, str]] = {}
        for kind, index in (("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")):
            files = self._listed(self.folder / index) or ([self.folder / kind] if (self.folder / kind).is_file() else [])
            for file in files:
                places.update({name: (file, name) for name in self._names_in(file)})
            if files:
                break
        for name, prefix in _EXTRA_FILES.items():
            file = self.folder / name
            if file.is_file():
                for inner in self._names_in(file):
                    places.setdefault(inner if inner.startswith(prefix) else prefix + inner, (file, inner))
        return places

    def _listed(self, index: Path) -> list[Path]:
        if not index.is_file():
            return []
        try:
            return [self.folder / shard for shard in sorted(set(json_object(index)["weight_map"].values()))]
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError(f"cannot read the list of weight files {str(index)!r}; download the checkpoint again") from error

    def _names_in(self, file: Path) -> list[str]:
        if file.suffix == ".safetensors":
            with self._open(file) as stream:
                return list(stream.keys())
        return list(self._torch_file(file))

    @staticmethod
    def _open(file: Path) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            return safe_open(str(file), framework="pt")
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot read the weight file {str(file)!r}: {error}; download the checkpoint again") from error

    @staticmethod
    def _torch_file(file: Path) -> Mapping[str, Tensor]:
        try:
            found: Mapping[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # a damaged or unsafe pickle fails in many ways
            raise InputError(f"cannot read the weight file {str(file)!r} safely: {error}; use a checkpoint with safetensors") from error
        return found


class ModuleWeights:
    """The tensors of a model in memory, by their names in its state."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._tensors = module.state_dict()

    @property
    def names(self) -> frozenset[str]:
        """Every tensor's name."""
        return frozenset(self._tensors)

    def tensor(self, name: str) -> Tensor:
        """A whole tensor."""
        found: Tensor = self._tensors[name]
        return found

    def rows(self, name: str, indices: Sequence[int]) -> Tensor:
        """Some rows of a matrix, in order."""
        return self.tensor(name)[list(indices)]
