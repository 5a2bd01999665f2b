"""Loading for scoring: a checkpoint's folder, its decoder without remote code, and where it is placed. Heads are in `head_weights`, training's loader in
`checkpoint`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from stepward.core import InputError, MissingExtra
from stepward.policies.checkpoint import first_line, load_tokenizer, quiet_transformers
from stepward.rewards.checkpoint import DTYPES
from stepward.rewards.families.family import plain_name
from stepward.rewards.weight_files import ModuleWeights, WeightFiles, Weights, json_object

LoadIn = Literal["8bit", "4bit"]
_NEVER = ("*.onnx", "*.gguf", "*.msgpack", "*.h5", "*.tflite", "*.ckpt", "original/*", "onnx/*")
_IGNORED = ("rotary_emb.inv_freq", "attn.bias", "attn.masked_bias")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Number format, device and form of a model. `load_in`: quantised weights. `compile`: the body's forward pass goes through torch.compile.

    Raises: InputError for values that do not exist.
    """

    dtype: str = "float32"
    device: str = "cpu"
    load_in: LoadIn | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        import torch

        if self.dtype not in DTYPES:
            raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.load_in is not None and self.load_in not in get_args(LoadIn):
            raise InputError(f"load_in must be one of {', '.join(get_args(LoadIn))}, or None, got {self.load_in!r}")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise InputError(f"device {self.device!r} is not a device; use cpu, cuda, cuda:1 or mps") from error
        counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "xpu": torch.xpu.device_count()}
        n_devices = counts.get(device.type, 0)
        if device.type != "cpu" and (device.index or 0) >= n_devices:
            raise InputError(f"device {self.device!r} is not here: this machine has {n_devices} of kind {device.type}; use another, or cpu")


class CheckpointFolder:
    """A checkpoint from a folder or the hub, before its weights are loaded. `adapter`: the folder of a LoRA adapter whose base the rest of it is."""

    def __init__(self, source: str | Path) -> None:
        self.source = str(source)
        self.is_local = Path(source).is_dir()
        self.folder = Path(source) if self.is_local else _download(self.source)
        self.adapter: Path | None = None
        if (self.folder / "adapter_config.json").is_file():
            self.adapter = self.folder
            try:
                base = json_object(self.folder / "adapter_config.json").get("base_model_name_or_path")
            except ValueError as error:
                raise self._unreadable(error) from error
            if not base or not isinstance(base, str):
                raise InputError(f"the LoRA adapter {self.source!r} does not name its base model (base_model_name_or_path in adapter_config.json)")
            beside = self.folder / base
            self.folder = beside if beside.is_dir() else Path(base) if Path(base).is_dir() else _download(base)

    @cached_property
    def config(self) -> Any:
        """The config, of a model type that transformers knows; remote code is never run.

        Raises: InputError when there is none.
        """
        from transformers import CONFIG_MAPPING

        try:
            record = json_object(self.folder / "config.json")
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        kind = record.get("model_type")
        if kind not in CONFIG_MAPPING:
            raise InputError(f"cannot load a reward model from {self.source!r}: transformers knows no model type {kind!r}; remote code is not run here")
        try:
            return CONFIG_MAPPING[kind].from_dict({name: value for name, value in record.items() if name != "auto_map"})
        except Exception as error:  # each kind of config checks its values in its own way
            raise self._unreadable(error) from error

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, the adapter's own where it has one."""
        own = self.adapter is not None and any((self.adapter / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))
        with quiet_transformers():
            try:
                return load_tokenizer(self.adapter if own and self.adapter is not None else self.folder)
            except (OSError, ValueError) as error:
                raise self._unreadable(error) from error

    @cached_property
    def files(self) -> WeightFiles:
        """The weight files (an adapter's base's)."""
        return WeightFiles(self.folder)

    def load(self, placement: Placement) -> tuple[Any, Weights]:
        """The decoder without its head, placed and in evaluation mode, and the tensors that heads are made of.

        Raises: InputError when weights are missing; MissingExtra for adapters without peft, and quantised loading without bitsandbytes.
        """
        if not self.files.found:
            raise InputError(f"cannot load a reward model from {self.source!r}: there is no model.safetensors or pytorch_model.bin in it")
        with quiet_transformers():
            try:
                body, weights = self._body(placement) if self.adapter is None else self._merged(placement)
            except (OSError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                raise self._unreadable(error) from error
            except RuntimeError as error:
                if "mismatched" not in str(error):
                    raise
                raise InputError(f"{self.source!r} holds weights of other sizes than its config.json says; download the checkpoint again") from error
        if placement.load_in is None:
            body = body.to(placement.device)
        body = body.eval().requires_grad_(False)
        if placement.compile:
            body.compile(dynamic=True)
        return body, weights

    def _body(self, placement: Placement) -> tuple[Any, Weights]:
        import torch
        from transformers import AutoModel

        wrapped = any(plain_name(name) != name for name in self.files.names)
        renamed = {"key_mapping": {r"^pretrained_model\.": ""}} if wrapped else {}
        body, info = AutoModel.from_pretrained(
            str(self.folder), config=self.config, dtype=getattr(torch, placement.dtype), output_loading_info=True, **renamed, **_quantisation(placement)
        )
        missing = sorted(name for name in info["missing_keys"] if not name.endswith(_IGNORED))
        if missing:
            raise InputError(f"{self.source!r} lacks weights for {', '.join(missing[:4])}; it is not a checkpoint of {type(body).__name__}")
        return body, self.files

    def _merged(self, placement: Placement) -> tuple[Any, Weights]:
        """The base model with the adapter added to its weights."""
        import torch
        import transformers

        try:
            from peft import PeftConfig, PeftModel
        except ImportError as error:
            raise MissingExtra("peft", "lora") from error
        kinds = {"TOKEN_CLS": "AutoModelForTokenClassification", "SEQ_CLS": "AutoModelForSequenceClassification", "CAUSAL_LM": "AutoModelForCausalLM"}
        task = PeftConfig.from_pretrained(str(self.adapter)).task_type
        auto = getattr(transformers, kinds.get(str(getattr(task, "value", task)), "AutoModelForCausalLM"))
        model = auto.from_pretrained(str(self.folder), config=self.config, dtype=getattr(torch, placement.dtype), **_quantisation(placement))
        if len(self.tokenizer) > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(len(self.tokenizer))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for what it has renamed
            merged = PeftModel.from_pretrained(model, str(self.adapter)).merge_and_unload()
        return merged.base_model, ModuleWeights(merged)

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"cannot load a reward model from {self.source!r}: {first_line(error)}; give a folder or hub id of a transformers model")

    @cached_property
    def weight_names(self) -> frozenset[str]:
        """The names of all tensors in the files."""
        return self.files.names


def _download(hub_id: str) -> Path:
    """The snapshot of a hub id in the local cache, safetensors where there are any.

    Raises: InputError when there is no such repository or it cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = Path(snapshot_download(hub_id, ignore_patterns=[*_NEVER, "*.bin", "*.pth"]))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(hub_id, ignore_patterns=list(_NEVER)))
    except (OSError, ValueError, HFValidationError, HfHubHTTPError) as error:
        raise InputError(f"cannot load a reward model from {hub_id!r}: {first_line(error)}; give a folder or hub id of a transformers model") from error
    return folder


def _quantisation(placement: Placement) -> dict[str, Any]:
    if placement.load_in is None:
        return {}
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingExtra("bitsandbytes", "quantized") from error
    import torch
    from transformers import BitsAndBytesConfig

    four = {"load_in_4bit": True, "bnb_4bit_compute_dtype": getattr(torch, placement.dtype), "bnb_4bit_quant_type": "nf4"}
    chosen = four if placement.load_in == "4bit" else {"load_in_8bit": True}
    return {"quantization_config": BitsAndBytesConfig(**chosen), "device_map": {"": placement.device}}
