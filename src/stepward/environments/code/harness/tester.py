"""The tester's process: executes the tests, whose calls of the program are answered by another process. Prints one line of JSON on what became of them."""

from __future__ import annotations

import ast
import builtins
import json
import os
import select
import signal
import sys
import time
from typing import Any, NoReturn

from stepward.environments.code.harness.codec import Gone, decode, encode, receive, send

_TESTS, _SHOWN = "<tests>", 200


class Undecided(BaseException):
    """The tests ask what cannot be told from here."""


class TimeUp(BaseException):
    """The program does not answer."""


class CandidateError(Exception):
    """The program raised something that has no class here."""


class Broken(BaseException):
    """The program ended itself, or answered nonsense."""


class Candidate:
    """The other process, as the tests see it: names that can be called."""

    def __init__(self, python: str, deadline: float) -> None:
        self.deadline = deadline
        code = "import sys; sys.path.insert(0, sys.argv[1]); from stepward.environments.code.harness.candidate import main; main()"
        theirs, self.writing = os.pipe()
        self.reading, its = os.pipe()
        null = os.open(os.devnull, os.O_WRONLY)
        streams = [(os.POSIX_SPAWN_DUP2, theirs, 0), (os.POSIX_SPAWN_DUP2, its, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
        self.pid = os.posix_spawn(python, [python, "-I", "-S", "-B", "-c", code, os.getcwd()], dict(os.environ), file_actions=streams)
        for fd in (theirs, its, null):
            os.close(fd)
        self.last: tuple[str, str] = ("", "")

    def ask(self, message: dict[str, Any], shown: str) -> Any:
        """The answer's value. Raises: the error that the program raised, TimeUp, Broken."""
        try:
            send(self.writing, message)
            answer = receive(self.reading, self._wait)
        except Gone:
            self.last = (shown, "the program's process ended")
            if self._killed_for_time():
                raise TimeUp("processor time") from None
            raise Broken("the program's process ended") from None
        except ValueError as error:
            raise Broken(f"the program's process answered nonsense: {error}") from None
        if "raised" in answer:
            self.last = (shown, f"raised {answer['raised']}: {answer.get('text', '')}"[:_SHOWN])
            if answer["raised"] == "StopIteration":
                raise Undecided("the program raises StopIteration, which ends a loop of the tests as if nothing were wrong")
            raise _error(str(answer["raised"]), str(answer.get("text", "")))
        try:
            value = decode(answer["value"], lambda held: Held(self, held))
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise Broken(f"the program's process answered nonsense: {error}") from None
        self.last = (shown, _spelled(value)[:_SHOWN])
        return value

    def _wait(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0 or not select.select([self.reading], [], [], left)[0]:
            raise TimeUp("no answer in time")

    def _killed_for_time(self) -> bool:
        """Whether the kernel ended the process for its processor time; one that only closed its pipe may go on living."""
        for _ in range(20):
            if (found := os.waitpid(self.pid, os.WNOHANG)) != (0, 0):
                return os.WIFSIGNALED(found[1]) and os.WTERMSIG(found[1]) in (signal.SIGXCPU, signal.SIGKILL)
            time.sleep(0.01)
        return False


def _spelled(value: Any) -> str:
    """A value as evidence shows it: Python refuses to spell integers of more than a few thousand digits."""
    try:
        return repr(value)
    except (ValueError, RecursionError):
        return f"a long {type(value).__name__}"


def _error(name: str, text: str) -> Exception:
    known = getattr(builtins, name, None)
    if isinstance(known, type) and issubclass(known, Exception):
        try:
            return known(text)
        except TypeError:
            pass
    return CandidateError(f"{name}: {text}")


class Held:
    """Something of the program that is not plain data: it can be called, read and tested for truth, but not compared."""

    def __init__(self, candidate: Candidate, where: list[Any]) -> None:
        self.__dict__["_at"] = (candidate, where)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        candidate, where = self.__dict__["_at"]
        shown = f"{where[1]}({', '.join(map(_spelled, arguments))})"[:_SHOWN]
        message = {
            "do": "call",
            "what": where,
            "arguments": [encode(value, _name) for value in arguments],
            "keywords": {key: encode(value, _name) for key, value in keywords.items()},
        }
        return candidate.ask(message, shown)

    def __getattr__(self, name: str) -> Any:
        candidate, where = self.__dict__["_at"]
        if name.startswith("__"):
            raise AttributeError(name)
        return candidate.ask({"do": "get", "what": where, "name": name}, f"{where[1]}.{name}")

    def __bool__(self) -> bool:
        candidate, where = self.__dict__["_at"]
        return candidate.ask({"do": "truth", "what": where}, f"bool({where[1]})") is True

    def __eq__(self, other: object) -> bool:
        return False if other is None else self._refuse()

    def __hash__(self) -> int:
        return id(self)

    def _refuse(self, *_: object) -> NoReturn:
        raise Undecided(f"the tests compare a {self.__dict__['_at'][1][-1]} of the program, which is no plain data")

    __lt__ = __le__ = __gt__ = __ge__ = __iter__ = __len__ = __getitem__ = __contains__ = __add__ = __sub__ = _refuse


def _name(value: Any) -> list[Any]:
    if isinstance(value, Held):
        return list(value.__dict__["_at"][1])
    raise Undecided(f"the tests pass a {type(value).__name__}, which is no plain data, to the program")


def main() -> None:
    """Read the request from standard input, and report. Imports come from the standard library alone: the program can write into this folder."""
    sys.path[:] = [folder for folder in sys.path if folder != sys.argv[1]]
    request = json.loads(sys.stdin.buffer.read())
    report = judge(request)
    sys.stdout.write(json.dumps(report))
    sys.stdout.flush()
    os._exit(0)


def judge(request: dict[str, Any]) -> dict[str, Any]:
    """Load the program and execute the tests."""
    try:
        candidate = Candidate(request["python"], time.monotonic() + request["time_s"])
    except OSError as error:
        return {"state": "broken", "reason": f"the program's process could not be started: {error}"}
    namespace: dict[str, Any] = {"__name__": "tests"}
    try:
        tree = ast.parse(request["tests"])
        imported = take_imports(tree)
        free = list(dict.fromkeys([*imported, *free_names(tree)]))
        helpers = helpers_of(request["prompt"], free)
        code = compile(tree, _TESTS, "exec")
    except (SyntaxError, ValueError, RecursionError) as error:
        return {"state": "broken", "reason": f"the tests are no Python: {error}"}
    try:
        defined = candidate.ask({"do": "load", "source": request["program"]}, "loading the program")
        called = [name for name in free if name not in helpers]
        if missing := [name for name in called if name not in defined]:
            return {"state": "failed", "reason": f"the program does not define {missing[0]}", "call": "", "returned": ""}
        namespace |= helpers | {name: Held(candidate, ["global", name, name]) for name in called}
        exec(code, namespace)
    except TimeUp as error:
        return {"state": "time", "reason": f"over its time: {error}"}
    except Undecided as error:
        return {"state": "broken", "reason": str(error)}
    except (Broken, Exception) as error:
        return _failure(error, request["tests"], candidate)
    return {"state": "passed", "reason": ""}


def _failure(error: BaseException, tests: str, candidate: Candidate) -> dict[str, Any]:
    number, trace = 0, error.__traceback__
    while trace is not None:
        number, trace = (trace.tb_lineno if trace.tb_frame.f_code.co_filename == _TESTS else number), trace.tb_next
    text = tests.splitlines()[number - 1].strip() if number else ""
    what = "false" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"[:_SHOWN]
    if isinstance(error, MemoryError) or candidate.last[1].startswith("raised MemoryError"):
        return {"state": "memory", "reason": "out of memory"}
    call, returned = candidate.last
    return {"state": "failed", "reason": what, "test": text[:500], "call": call, "returned": returned}


def take_imports(tree: ast.Module) -> list[str]:
    """The names that `from program import ...` asks of the program; those lines are taken out."""
    lines = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "program"]
    tree.body = [node for node in tree.body if node not in lines]
    return [alias.name for node in lines for alias in node.names]


def free_names(tree: ast.AST) -> list[str]:
    """Names that the tests use and do not define."""
    bound: set[str] = set(dir(builtins)) | {"__name__"}
    used: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                used[node.id] = None
            else:
                bound.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return [name for name in used if name not in bound]


def helpers_of(prompt: str, wanted: list[str]) -> dict[str, Any]:
    """What the problem itself defines in full, of the wanted names; its code is the problem's, not the candidate's."""
    try:
        tree = ast.parse(prompt)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    full = {node.name for node in defined[:-1] if not is_stub(node)}  # the last is the one to be written, whatever its body begins with
    if not full & set(wanted):
        return {}
    namespace: dict[str, Any] = {}
    exec(compile(tree, "<prompt>", "exec"), namespace)
    return {name: namespace[name] for name in wanted if name in full}


def is_stub(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Whether a definition has no body but a docstring, `pass` or `...`."""
    return all(isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)) for line in node.body)


if __name__ == "__main__":
    main()
