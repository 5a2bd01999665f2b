"""Code: problems whose answer is a program, graded by running tests in the sandbox."""

from stepward.data.code_problems import code_problem, read_code_problems
from stepward.environments.code.environment import Code
from stepward.environments.code.program import program_of
from stepward.environments.code.suite import Result, Suite

__all__ = ["Code", "Result", "Suite", "code_problem", "program_of", "read_code_problems"]
