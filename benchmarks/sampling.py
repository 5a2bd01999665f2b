"""Sampling: useful tokens per second of the local policy's sampler against transformers' `generate`, in one run on the same weights.

Workload: `--prompts` problems times `--samples` solutions, written to the end. `generate` runs in batches of `--batch` rows (each prompt repeated,
left-padded, its own key-value cache). A useful token is one that belongs to a solution, its end of text included; padding is not. Our sampler computes draws
that are equal so far once (`sequences_computed_per_row`); random weights show what it does without that.

    python benchmarks/sampling.py --json
    python benchmarks/sampling.py --policy path/to/model --top-p 0.95
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from stepward.core import Problem, Sampling, Trajectory, Until, metered

_SHIPPED = Path(__file__).resolve().parents[1] / "src" / "stepward" / "policies" / "tiny"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", help="model folder or hub id; default: the shipped tiny policy, or a random model of its shape")
    parser.add_argument("--problems", help="text file with one prompt a line; default: problems of the easy grade-school environment")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64, help="rows per `generate` call")
    parser.add_argument("--max-rows", type=int, default=512, help="rows of our sampler")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1, help="measure this often, alternating, and report medians")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.policy or (str(_SHIPPED) if (_SHIPPED / "config.json").exists() else random_model(Path(folder)))
        report = run(source, options)
    if options.json:
        print(json.dumps(report))
        return
    print(report["machine"])
    for name, value in {**report["figures"], **report["ratios"]}.items():
        print(f"{name:34s} {value:12.4g}" if isinstance(value, float | int) else f"{name:34s} {value}")


def run(source: str, options: argparse.Namespace) -> dict[str, Any]:
    from stepward.policies.local import LocalPolicy

    policy = LocalPolicy.from_pretrained(source, device=options.device, max_rows=options.max_rows)
    prompts = read_prompts(options)
    sampling = Sampling(
        temperature=options.temperature, top_p=options.top_p, top_k=options.top_k, max_tokens=options.max_tokens, max_step_tokens=options.max_tokens
    )
    ours_once(policy, prompts[:2], 2, sampling)  # warm up
    alone(theirs_once, policy, prompts[:2], options, n_samples=2)
    ours, theirs = [], []
    for repeat in range(options.repeats):
        ours.append(ours_once(policy, prompts, options.samples, Sampling(**{**sampling.to_record(), "seed": repeat + 1})))
        policy.close()
        theirs.append(alone(theirs_once, policy, prompts, options, n_samples=options.samples))
        policy = LocalPolicy(policy.model, policy.tokenizer, max_rows=options.max_rows)
    mine = sorted(ours, key=lambda result: result["tokens_per_s"])[len(ours) // 2]
    peer = sorted(theirs, key=lambda result: result["tokens_per_s"])[len(theirs) // 2]
    policy.close()
    rate = alone(matmul_rate, options.device)
    return {
        "benchmark": "sampling",
        "machine": machine(options.device),
        "figures": {
            "model": "shipped tiny policy" if source == str(_SHIPPED) else (options.policy or "random, 6 layers of 192"),
            "parameters": sum(weights.numel() for weights in policy.model.parameters()),
            "useful_tokens_per_s": mine["tokens_per_s"],
            "generate_useful_tokens_per_s": peer["tokens_per_s"],
            "wall_s": mine["wall_s"],
            "generate_wall_s": peer["wall_s"],
            "mean_tokens_per_sample": mine["mean_tokens"],
            "generate_mean_tokens_per_sample": peer["mean_tokens"],
            "mean_rows_per_pass": mine["rows_per_pass"],
            "sequences_computed_per_row": mine["computed"],
            "matmul_gflops": rate / 1e9,
            "fraction_of_matmul_rate": mine["flops"] / mine["wall_s"] / rate,
        },
        "ratios": {
            "useful_tokens_per_s_over_generate": mine["tokens_per_s"] / peer["tokens_per_s"],
            "useful_tokens_per_cpu_s_over_generate": mine["tokens_per_cpu_s"] / peer["tokens_per_cpu_s"],  # where other programs share the machine
        },
    }


def alone(measure: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Measure in a thread of its own, which takes its OpenMP team with it when it ends.

    Two teams in one process outnumber the cores, and OpenMP then waits by sleeping: the side that is measured while the other's team lives on
    would lose up to half of its speed. Ours runs in the policy's own thread, which `close` ends.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(measure, *arguments, **options).result()


def ours_once(policy: Any, prompts: list[str], n_samples: int, sampling: Sampling) -> dict[str, float]:
    """All prompts at once, one request each."""

    async def sample_all() -> list[list[Trajectory]]:
        return await asyncio.gather(*(policy.sample(Trajectory(Problem(prompt)), n_samples, until=Until.END, sampling=sampling) for prompt in prompts))

    with metered() as ledger:
        start, cpu = time.perf_counter(), time.process_time()
        asyncio.run(sample_all())
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    pool = policy._worker.pool
    n_tokens = ledger.usage.policy_tokens
    rows_per_pass, computed = pool.n_row_passes / pool.n_passes, pool.n_slot_passes / pool.n_row_passes
    pool.n_row_passes = pool.n_slot_passes = pool.n_passes = 0
    mean = n_tokens / (len(prompts) * n_samples)
    result = {"tokens_per_s": n_tokens / wall_s, "tokens_per_cpu_s": n_tokens / cpu_s, "wall_s": wall_s, "mean_tokens": mean}
    return result | {"flops": computed * ledger.usage.flops, "rows_per_pass": rows_per_pass, "computed": computed}


def theirs_once(policy: Any, prompts: list[str], options: argparse.Namespace, *, n_samples: int) -> dict[str, float]:
    """transformers' generate, batch by batch."""
    rows = [policy.prompt_tokens(Problem(prompt)) for prompt in prompts for _ in range(n_samples)]
    eos = sorted(policy.rendering.eos_ids)
    settings = {
        "do_sample": options.temperature > 0, "temperature": options.temperature or None, "top_p": options.top_p, "top_k": options.top_k,
        "max_new_tokens": options.max_tokens, "eos_token_id": eos, "pad_token_id": eos[0],
    }  # fmt: skip
    n_tokens = 0
    torch.manual_seed(0)
    start, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        for first in range(0, len(rows), options.batch):
            batch = rows[first : first + options.batch]
            width = max(map(len, batch))
            ids = torch.tensor([[eos[0]] * (width - len(row)) + list(row) for row in batch], device=options.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=options.device)
            written = policy.model.generate(input_ids=ids, attention_mask=mask, **settings)[:, width:]
            is_end = torch.isin(written, torch.tensor(eos, device=options.device))
            n_tokens += int((is_end.cumsum(-1) - is_end.long() == 0).sum())  # up to and including the first end of text
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return {"tokens_per_s": n_tokens / wall_s, "tokens_per_cpu_s": n_tokens / cpu_s, "wall_s": wall_s, "mean_tokens": n_tokens / len(rows)}


def read_prompts(options: argparse.Namespace) -> list[str]:
    if options.problems:
        lines = [line.strip() for line in Path(options.problems).read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line][: options.prompts]
    from stepward.environments.grade_school import GradeSchool

    return [problem.prompt for problem in GradeSchool.easy().problems(0, options.prompts, split="dev")]


def random_model(folder: Path) -> str:
    """A Llama of 6 layers of 192 with random weights that ends a line after about 10 tokens and the text after about 40."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from stepward.environments.grade_school import GradeSchool

    pieces = Regex(r" ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]|\n| ")
    prompts = " ".join(problem.prompt for problem in GradeSchool.easy().problems(0, 256, split="dev"))
    words = {piece for piece, _ in pre_tokenizers.Split(pieces, "isolated").pre_tokenize_str(prompts)} | {f" w{index}" for index in range(1000)}
    vocabulary = {word: index for index, word in enumerate(["<eos>", "\n", "<unk>", *sorted(words - {"\n"})])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=192, intermediate_size=512, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6,
        max_position_embeddings=512, eos_token_id=0, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    config.stepward = {"separator": "\n", "template": "raw"}
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():  # coordinate 0 of the residual stream is a constant that the output layer reads the chance of an end from
        model.model.embed_tokens.weight[:, 0] = 1.0
        for block in model.model.layers:
            block.self_attn.o_proj.weight[0] = 0.0
            block.mlp.down_proj.weight[0] = 0.0
        hidden = model.model(torch.arange(64)[None]).last_hidden_state[0, :, 0].mean()
        others = model(torch.arange(64)[None]).logits[0, :, 2:].logsumexp(-1).mean()
        for token, chance in ((0, 1 / 40), (1, 1 / 10)):
            model.lm_head.weight[token] = 0.0
            model.lm_head.weight[token, 0] = (others + torch.tensor(chance / (1 - 1 / 40 - 1 / 10)).log()) / hidden
    model.save_pretrained(folder)
    return str(folder)


def matmul_rate(device: str, size: int = 1024) -> float:
    """Floating-point operations per second of a float32 matrix product: the best of 20."""
    a, b = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
    best = 0.0
    for _ in range(20):
        start = time.perf_counter()
        (a @ b).sum().item()
        best = max(best, 2.0 * size**3 / (time.perf_counter() - start))
    return best


def machine(device: str) -> str:
    name = torch.cuda.get_device_name() if device.startswith("cuda") else f"{os.cpu_count()} x {platform.machine()}, {torch.get_num_threads()} threads"
    return f"{platform.system()} {name}, python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
