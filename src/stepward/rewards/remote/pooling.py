"""PoolingModel: vLLM's /pooling, token-wise classification, with a step tag or with a row for every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from stepward.core import CountMismatch, InputError
from stepward.rewards.convention import Convention
from stepward.rewards.encoding import Encoded
from stepward.rewards.remote.activation import Activation, Sends
from stepward.rewards.remote.model import Answers, RemoteModel
from stepward.rewards.remote.rows import Floats, columns_of, ordered, rows_of
from stepward.rewards.remote.server import Server, spent_by

Numbers = Literal["float", "base64"]


class PoolingModel(RemoteModel):
    """Step scores from a vLLM server started with `--runner pooling`, one request a solution.

    With `--pooler-config '{"step_tag_id": ID}'` the server returns a row for every token ID in the input, without it one for every token; both are
    understood, by their number, and only the rows of the positions that the convention reads are used. So the tag may also occur in the problem or in a
    step. Rows are K numbers, in the order of the server's `returned_token_ids` where these are set, or as wide as the vocabulary; then `token_ids` are the
    convention's columns. `sends` as in `Activation`. `numbers` "base64" sends fp32 in less than half the size of decimal numbers.

    vLLM does not read its prefix cache for token-wise requests: a growing beam is computed anew at every step.
    """

    protocol = "vllm/pooling"

    def __init__(
        self, server: Server, tokenizer: Any, convention: Convention, *, token_ids: Sequence[int] = (), numbers: Numbers = "float", sends: Sends = "auto"
    ) -> None:
        super().__init__(server, tokenizer, convention)
        if numbers not in get_args(Numbers):
            raise InputError(f"numbers must be one of {', '.join(get_args(Numbers))}, got {numbers!r}")
        self.token_ids, self.numbers = tuple(token_ids), numbers
        self._activation = Activation(sends)

    async def ask(self, parts: Sequence[Encoded], *, key: str) -> Answers:
        prompts = [part.ids.tolist() for part in parts]
        width = self.convention.n_outputs

        async def rows(use_activation: bool) -> tuple[Floats, dict[str, Any]]:
            def body(given: list[Any]) -> dict[str, Any]:
                settings = {"task": "token_classify", "use_activation": use_activation, "add_special_tokens": False}
                return {"input": given, "encoding_format": self.numbers, "embed_dtype": "float32", "endianness": "little", **settings}

            answer = await self.server.ask("pooling", prompts, body, self.tokenizer, key=key)
            found = [rows_of(item.get("data"), n_columns=width) for item in ordered(answer, n=len(parts))]
            kept = [columns_of(self._read(part, rows), n_outputs=width, ids=self.token_ids) for part, rows in zip(parts, found, strict=True)]
            return np.concatenate(kept), answer

        outputs, answers = await self._activation.logits(rows)
        return Answers(outputs, spent_by(answers))

    def _read(self, part: Encoded, rows: Floats) -> Floats:
        """Those rows that belong to the kept steps.

        Raises: CountMismatch for a number of rows that is neither that of the tokens nor that of the step tags.
        """
        read = part.read[part.kept]
        if len(rows) == len(part.ids):
            return rows[read]
        tags = np.flatnonzero(part.ids == part.ids[read[0]])
        if len(rows) == len(tags) and np.isin(read, tags).all():
            return rows[np.searchsorted(tags, read)]
        raise CountMismatch(
            f"{self.server.url}/pooling returned {len(rows)} rows for {len(part.ids)} tokens with {part.n_kept} steps; the step tag of this convention is "
            f"token {int(part.ids[read[0]])}, so serve with --pooler-config '{{\"step_tag_id\": {int(part.ids[read[0]])}}}' or without a tag"
        )
