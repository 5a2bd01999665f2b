"""The nouns and protocols that everything else produces, consumes or compares. NumPy is the only dependency here."""

from stepward.core.aggregation import AGGREGATIONS, Aggregation, Floats, aggregate, check_aggregation
from stepward.core.errors import (
    FAILURES,
    ContextOverflow,
    CountMismatch,
    FormatError,
    InputError,
    MissingExtra,
    RequestFailed,
    RequestRetryable,
    StepwardError,
    StopRun,
)
from stepward.core.example import Example
from stepward.core.labels import NO_ERROR, Count, Semantics, StepLabels, first_bad
from stepward.core.outcome import Outcome
from stepward.core.price import PricedModel, PricedPolicy, price_of_sample, price_of_score
from stepward.core.problem import Problem
from stepward.core.protocols import (
    DEFAULT_SAMPLING,
    ChoicePolicy,
    Environment,
    Granularity,
    Labeler,
    LogprobPolicy,
    Policy,
    ResumingPolicy,
    RewardModel,
    Search,
    TokenLogprobs,
)
from stepward.core.record import SCHEMA_VERSION, FrozenDict, canonical_json, content_hash, from_record
from stepward.core.result import SearchResult
from stepward.core.sampling import Sampling, Until
from stepward.core.scores import ABSTAINED, Scale, StepScores, one_a_step
from stepward.core.step import Step
from stepward.core.trajectory import Trajectory
from stepward.core.tree import Kind, Node, Tree, top
from stepward.core.usage import Ledger, Usage, charge, metered, metered_as_reward

__all__ = [
    "ABSTAINED", "AGGREGATIONS", "DEFAULT_SAMPLING", "FAILURES", "NO_ERROR", "SCHEMA_VERSION", "Aggregation", "ChoicePolicy", "ContextOverflow", "Count",
    "CountMismatch", "Environment", "Example", "Floats", "FormatError", "FrozenDict", "Granularity", "InputError", "Kind", "Labeler", "Ledger",
    "LogprobPolicy", "MissingExtra", "Node", "Outcome", "Policy", "PricedModel", "PricedPolicy", "Problem", "RequestFailed", "RequestRetryable",
    "ResumingPolicy", "RewardModel", "Sampling", "Scale", "Search", "SearchResult", "Semantics", "Step", "StepLabels", "StepScores", "StepwardError", "StopRun",
    "TokenLogprobs", "Trajectory", "Tree", "Until", "Usage", "aggregate", "canonical_json", "charge", "check_aggregation", "content_hash", "first_bad",
    "from_record", "metered", "metered_as_reward", "one_a_step", "price_of_sample", "price_of_score", "top",
]  # fmt: skip
