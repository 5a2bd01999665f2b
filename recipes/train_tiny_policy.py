"""Train the tiny policy that ships in the package: a small Llama that solves the easy problems of grade-school, well but not too well.

    python recipes/train_tiny_policy.py --out runs/tiny

Problems are streamed from the environment's train split, so none of its dev or test problems is ever seen. A curriculum begins with few
operations and small numbers. Later, most solutions of problems that take something away add instead: the policy learns a misconception, as
language models do, and its most frequent answer is then often wrong. (A policy without one is wrong only by chance; a majority of 16 removes
most of that, and leaves a small reward model little to find.) Matrices are trained with Muon, everything else with AdamW. Killing and
restarting continues from the last checkpoint. A run depends on its seed and number of steps alone (up to the machine's floating point).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from stepward.core import Problem
from stepward.environments.grade_school import GradeSchool, vocabulary
from stepward.environments.grade_school.operations import evaluate, expression, postfix
from stepward.environments.grade_school.oracle import oracle_of

PIECES = r"\n| ?\d{1,2}(?!\d)| ?\d|'s| ?[A-Za-z]+| ?[^\sA-Za-z0-9]"
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class TinyRun:
    """Everything that defines the run. The learning rate falls linearly over the last `decay_steps`. `body`: a model of the same shape to begin from."""

    layers: int = 6
    hidden: int = 160
    heads: int = 5
    ffn: int = 448
    lr: float = 1.5e-3
    muon_lr: float = 1.2e-2
    warmup_steps: int = 100
    decay_steps: int = 400
    batch: int = 48
    pool: int = 40
    curriculum_steps: int = 500
    misconception_from: int = 800
    misconception_share: float = 0.6
    body: Path | None = None
    seed: int = 0


Lessons = Callable[[TinyRun, int], Iterator[tuple[str, Sequence[str]]]]
Measure = Callable[[LlamaForCausalLM, PreTrainedTokenizerFast, TinyRun], dict[str, float]]


def number_tokens() -> list[str]:
    """Numbers below 100, and two digits within a longer number."""
    return [f"{space}{number}" for number in range(100) for space in (" ", "")] + [f"0{digit}" for digit in range(10)]


def tiny_tokenizer(words: Sequence[str], more: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Word level: a word with or without the space before it is one token; decoding gives the text back exactly. `more`: further tokens."""
    tokens = ["<pad>", "</s>", "<unk>", "\n", " "]
    tokens += [space + word for word in words for space in (" ", "") if not word.isdigit()]
    tokens += more
    tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(dict.fromkeys(tokens))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False)


def tiny_model(run: TinyRun, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=run.hidden, intermediate_size=run.ffn, num_hidden_layers=run.layers, num_attention_heads=run.heads,
        max_position_embeddings=512, tie_word_embeddings=True, rms_norm_eps=1e-5, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, attn_implementation="sdpa",
    )  # fmt: skip
    config.stepward = {"separator": "\n", "template": "raw"}
    torch.manual_seed(run.seed)
    model = LlamaForCausalLM(config)
    if run.body is not None:
        begin_from(run.body, model, tokenizer)
    return model


def begin_from(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Layers of the model in `folder`, and its embeddings of the tokens that both know; the other tokens begin at random, on the same scale."""
    taught, known = LlamaForCausalLM.from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder).get_vocab()
    model.model.layers.load_state_dict(taught.model.layers.state_dict())
    model.model.norm.load_state_dict(taught.model.norm.state_dict())
    rows, theirs = model.model.embed_tokens.weight.data, taught.model.embed_tokens.weight.data.float()
    rows.normal_(std=float(theirs.std()))
    for token, index in tokenizer.get_vocab().items():
        if token in known:
            rows[index] = theirs[known[token]]


def lessons(run: TinyRun, start: int) -> Iterator[tuple[str, Sequence[str]]]:
    """Prompt and solution of problem after problem: one or two operations first, then more and more of the demo's own distribution."""
    short, demo = GradeSchool.easy(max_operations=2), GradeSchool.easy()
    rng = random.Random(f"{run.seed} {start}")
    index = start * 100_000_000
    seen = start * run.batch * run.pool
    while True:
        share = min(1.0, 0.3 + 0.7 * seen / (run.curriculum_steps * run.batch))
        drawn = (demo if rng.random() < share else short).problem(run.seed, index, "train")
        mistaken = seen >= run.misconception_from * run.batch and rng.random() < run.misconception_share
        yield drawn.prompt, (misconceived(drawn) if mistaken else None) or drawn.reference_steps
        index += 1
        seen += 1


def misconceived(problem: Problem) -> list[str] | None:
    """A solution that adds wherever it should take away, and is consistent otherwise; None when its numbers would not come out whole and small."""
    world = oracle_of(problem).world
    values = [Fraction(quantity.value) for quantity in world.quantities]
    lines = []
    for index in world.plan:
        quantity = world.quantities[index]
        shown = expression(quantity.operation, [values[parent] for parent in quantity.parents], quantity.numbers)
        if quantity.operation in ("minus", "difference"):
            left, right = shown.split(" - ")
            shown, values[index] = f"{left} + {right}", Fraction(left) + Fraction(right)
        else:
            values[index] = Fraction(evaluate(postfix(quantity.operation, [values[parent] for parent in quantity.parents], quantity.numbers)))
        if values[index].denominator != 1 or not 0 < values[index] < 100:
            return None
        lines.append(f"{quantity.title} = {shown} = {values[index]}.")
    return [*lines, f"The answer is {values[world.asked]}."]


def batches(run: TinyRun, tokenizer: PreTrainedTokenizerFast, start_pool: int, lessons: Lessons) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Pools of `pool` batches; within a pool, examples of like length go together. Targets are the solution's tokens only."""
    pool_index = start_pool
    while True:
        source = lessons(run, pool_index)
        rows = []
        for _ in range(run.pool * run.batch):
            prompt, lesson = next(source)
            ids = tokenizer(prompt + "\n", add_special_tokens=False)["input_ids"]
            targets = [IGNORED] * len(ids)
            solution = [*tokenizer("\n".join(lesson), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            rows.append((ids + solution, targets + solution))
        rows.sort(key=lambda row: len(row[0]))
        pool = []
        for at in range(0, len(rows), run.batch):
            group = rows[at : at + run.batch]
            width = -(-max(len(ids) for ids, _ in group) // 8) * 8
            ids_batch = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row, _ in group])
            pool.append((ids_batch, torch.tensor([row + [IGNORED] * (width - len(row)) for _, row in group])))
        random.Random(f"order {run.seed} {pool_index}").shuffle(pool)
        yield pool
        pool_index += 1


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the solution tokens; the head runs at their positions only. Right padding needs no mask under causal attention."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    wanted = targets[:, 1:] != IGNORED
    return functional.cross_entropy(model.lm_head(hidden[wanted]), targets[:, 1:][wanted])


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz iterations (Jordan et al., Muon, 2024), in fp32 and batched over equal shapes.

    PyTorch's own Muon iterates in bfloat16, which this recipe's target, a CPU without bfloat16 units, runs a hundred times slower.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        del closure
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
            for p in group["params"]:
                shapes.setdefault((min(p.shape), max(p.shape)), []).append(p)
            for same in shapes.values():
                updates = []
                for p in same:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    update = p.grad.lerp(buffer, group["momentum"])
                    updates.append(update.T if p.shape[0] > p.shape[1] else update)
                for p, update in zip(same, orthogonal(torch.stack(updates)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update.T if p.shape[0] > p.shape[1] else update, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonal(x: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Nearest semi-orthogonal matrices to x[n, rows, columns], rows <= columns, by the quintic Newton-Schulz iteration."""
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def optimizers(model: LlamaForCausalLM, run: TinyRun) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(matrices, lr=run.muon_lr),
        torch.optim.AdamW(others, lr=run.lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


@torch.inference_mode()
def pass_at_1(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, run: TinyRun, n: int = 400) -> dict[str, float]:
    """Share of dev problems solved by one sample at temperature 1, by number of operations."""
    model.eval()
    drawn = list(GradeSchool.easy().problems(run.seed, n, split="dev"))
    right: dict[int, list[bool]] = {}
    tokenizer.padding_side = "left"
    torch.manual_seed(run.seed)
    for at in range(0, n, 100):
        group = drawn[at : at + 100]
        inputs = tokenizer([p.prompt + "\n" for p in group], return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False)
        output = model.generate(**inputs, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=110)
        for p, row in zip(group, output[:, inputs["input_ids"].shape[1] :], strict=True):
            text = tokenizer.decode(row, skip_special_tokens=True)
            right.setdefault(len(p.reference_steps) - 1, []).append(text.rstrip().endswith(f"The answer is {p.answer}."))
    model.train()
    every = [hit for hits in right.values() for hit in hits]
    return {"pass@1": sum(every) / len(every)} | {f"{k} operations": round(sum(hits) / len(hits), 3) for k, hits in sorted(right.items())}


def train(run: TinyRun, out: Path, tokenizer: PreTrainedTokenizerFast, lessons: Lessons, measure: Measure, *, steps: int) -> None:
    """Train on the lessons from the last checkpoint in `out` on; the model is measured and saved every ten pools."""
    out.mkdir(parents=True, exist_ok=True)
    model = tiny_model(run, tokenizer)
    opts = optimizers(model, run)
    step, spent_s, tokens = 0, 0.0, 0
    state_file = out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file)
        model.load_state_dict(state["model"])
        for opt, saved in zip(opts, state["opts"], strict=True):
            opt.load_state_dict(saved)
        step, spent_s, tokens = state["step"], state["spent_s"], state["tokens"]
    model.train()
    base_lr = [run.muon_lr, run.lr]
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"{n_parameters:,} parameters, {len(tokenizer)} tokens, from step {step}", flush=True)
    began = time.monotonic() - spent_s
    shown, smooth, counted = time.monotonic(), 0.0, tokens
    for pool in batches(run, tokenizer, step // run.pool, lessons):
        for ids, targets in pool:
            scale = min(1.0, (step + 1) / run.warmup_steps, max(0.02, (steps - step) / run.decay_steps))
            for opt, lr in zip(opts, base_lr, strict=True):
                for group in opt.param_groups:
                    group["lr"] = lr * scale
            loss = loss_of(model, ids, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for opt in opts:
                opt.step()
                opt.zero_grad(set_to_none=True)
            step += 1
            tokens += int((ids != tokenizer.pad_token_id).sum())
            value = float(loss.detach())
            smooth = value if smooth == 0.0 else 0.98 * smooth + 0.02 * value
        now = time.monotonic()
        line = {
            "step": step,
            "loss": round(smooth, 4),
            "tokens": tokens,
            "tokens_per_s": round((tokens - counted) / (now - shown)),
            "minutes": round((now - began) / 60, 1),
        }
        shown, counted = now, tokens
        over = step >= steps
        if over or (step // run.pool) % 10 == 0:
            line |= measure(model, tokenizer, run)
            torch.save(
                {"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "step": step, "spent_s": time.monotonic() - began, "tokens": tokens},
                state_file,
            )
            save(model, tokenizer, out / "model")
        print(json.dumps(line), flush=True)
        if over or math.isnan(smooth):
            break


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """The folder that ships: fp16 safetensors and the tokenizer, loadable by transformers."""
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder)
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--misconception-share", type=float, default=TinyRun.misconception_share)
    arguments = parser.parse_args()
    settings = TinyRun(seed=arguments.seed, misconception_share=arguments.misconception_share)
    train(settings, arguments.out, tiny_tokenizer(vocabulary(), number_tokens()), lessons, pass_at_1, steps=arguments.steps)
