"""Generative reward models: judges that write a critique and are read by their verdicts, on top of any policy."""

from stepward.rewards.generative.critic import Critic, FoVerCritic, OnePass
from stepward.rewards.generative.frame import Frame
from stepward.rewards.generative.genprm import CodeExecutor, GenPRM
from stepward.rewards.generative.load import JUDGES, load_judge, load_pairwise, split_judge
from stepward.rewards.generative.model import GenerativeModel
from stepward.rewards.generative.pairwise import Comparison, PairwiseJudge
from stepward.rewards.generative.ranking import Knockout, borda, elo, knockout
from stepward.rewards.generative.rprm import RPRM
from stepward.rewards.generative.rubric import Criterion, PrincipleJudge, Rubric, RubricJudge
from stepward.rewards.generative.stepwiser import StepWiser
from stepward.rewards.generative.task import Forcing, JudgeTask, Mark, Question, Reading
from stepward.rewards.generative.thinkprm import ThinkPRM
from stepward.rewards.generative.turns import Turns

__all__ = [
    "JUDGES", "RPRM", "CodeExecutor", "Comparison", "Criterion", "Critic", "FoVerCritic", "Forcing", "Frame", "GenPRM", "GenerativeModel", "JudgeTask",
    "Knockout",
    "Mark", "OnePass", "PairwiseJudge", "PrincipleJudge", "Question", "Reading", "Rubric", "RubricJudge", "StepWiser", "ThinkPRM", "Turns", "borda", "elo",
    "knockout", "load_judge", "load_pairwise", "split_judge",
]  # fmt: skip
