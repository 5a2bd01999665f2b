"""Labelers that ask a judge: any generative reward model, and most others."""

from stepward.labeling.judges.aurora import Aurora
from stepward.labeling.judges.filtered import JudgedMonteCarlo
from stepward.labeling.judges.labels import JudgeLabels
from stepward.labeling.judges.pathfinder import PathFinderLabels
from stepward.labeling.judges.spare import Spare, reference_example
from stepward.labeling.judges.spark import Spark
from stepward.labeling.judges.verifiagent import VerifiAgent
from stepward.labeling.judges.versa import Versa

__all__ = ["Aurora", "JudgeLabels", "JudgedMonteCarlo", "PathFinderLabels", "Spare", "Spark", "VerifiAgent", "Versa", "reference_example"]
