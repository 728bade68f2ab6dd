"""Programs in other languages, built and run with default limits by the tool chains found here.

`docs/reference/languages.md` lists them; `.ci/run` installs what Debian packages.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from evolve.errors import ProblemError
from evolve.problem import load_problem
from evolve.records import Status
from evolve.runs.wiring import open_evaluators
from evolve.settings import Settings, change_settings


class Language(NamedTuple):
    """How to write, build and run a program that reads a number and prints three times that."""

    file: str
    text: str
    run: str
    build: str = ""
    tools: tuple[str, ...] = ()


JAVA = """import java.util.Scanner;
public class Main {
    static double f(double x) { return 3.0 * x; }
    public static void main(String[] a) {
        System.out.println(f(new Scanner(System.in).nextDouble()));
    }
}
"""
SHARP = """using System;
class Program {
    static void Main() { Console.WriteLine(3.0 * double.Parse(Console.ReadLine())); }
}
"""
GO = 'package main\nimport "fmt"\nfunc main() { var x float64; fmt.Scan(&x); fmt.Println(3 * x) }\n'
C = '#include <stdio.h>\nint main(void) { double x; scanf("%lf", &x); printf("%g\\n", 3 * x); }\n'
CPP = "#include <iostream>\nint main() { double x; std::cin >> x; std::cout << 3 * x << '\\n'; }\n"
FORTRAN = "program p\n  real :: x\n  read *, x\n  print *, 3 * x\nend program\n"
RUST = """use std::io::Read;
fn main() {
    let mut s = String::new();
    std::io::stdin().read_to_string(&mut s).unwrap();
    println!("{}", 3.0 * s.trim().parse::<f64>().unwrap());
}
"""
NODE = "const x = Number(require('fs').readFileSync(0, 'utf8'));\nconsole.log(3 * x);\n"
R = 'x <- as.numeric(readLines(file("stdin"), n = 1))\ncat(3 * x, "\\n")\n'
LANGUAGES = {
    "C": Language("main.c", C, "./main", "cc -O2 -o main main.c", ("cc",)),
    "C++": Language("main.cpp", CPP, "./main", "g++ -O2 -o main main.cpp", ("g++",)),
    "Fortran": Language("main.f90", FORTRAN, "./main", "gfortran -o main main.f90", ("gfortran",)),
    "Go": Language("main.go", GO, "./main", "go build -o main main.go", ("go",)),
    "Java": Language("Main.java", JAVA, "java -cp . Main", "javac Main.java", ("javac", "java")),
    "C# (Mono)": Language("main.cs", SHARP, "mono main.exe", "mcs main.cs", ("mcs", "mono")),
    "R": Language("main.R", R, "Rscript main.R", tools=("Rscript",)),
    "Node": Language("main.js", NODE, "node main.js", tools=("node",)),
    "Perl": Language("main.pl", "print 3 * <STDIN>, qq(\\n);\n", "perl main.pl", tools=("perl",)),
    "Ruby": Language("main.rb", "puts 3 * gets.to_f\n", "ruby main.rb", tools=("ruby",)),
    "Lua": Language("main.lua", 'print(3 * io.read("n"))\n', "lua main.lua", tools=("lua",)),
    "PHP": Language("main.php", "<?php echo 3 * fgets(STDIN);\n", "php main.php", tools=("php",)),
    "Julia": Language(
        "main.jl", "println(3 * parse(Float64, readline()))\n", "julia main.jl", tools=("julia",)
    ),
    "Rust": Language("main.rs", RUST, "./main", "rustc -O -o main main.rs", ("rustc",)),
}
EVALUATOR = """from evolve.scoring import Score
def evaluate(program): return Score(float(program.run(stdin="2\\n").text))
"""


def write_problem(folder: Path, language: Language, more: str = "") -> Path:
    folder.mkdir()
    build = f'build = "{language.build}"\n' if language.build else ""
    program = f'[program]\nfiles = ["{language.file}"]\n{build}run = "{language.run}"\n'
    (folder / "problem.toml").write_text(f'direction = "maximize"\npackages = []\n{more}{program}')
    (folder / "statement.md").write_text("Print three times the number.")
    (folder / language.file).write_text(language.text)
    (folder / "evaluator.py").write_text(EVALUATOR)
    return folder


@pytest.mark.parametrize("backend", ["bubblewrap", "native"])
@pytest.mark.parametrize("name", LANGUAGES)
def test_a_program_is_built_and_run_with_default_limits(
    tmp_path: Path, name: str, backend: str
) -> None:
    language = LANGUAGES[name]
    found = [shutil.which(tool) for tool in language.tools]
    if None in found:
        pytest.skip(f"no {language.tools[found.index(None)]} here")
    own = Path.home() / ".cargo"
    shows = any(Path(str(path)).is_relative_to(own) for path in found)
    more = '[sandbox]\nshow = ["~/.cargo"]\n' if shows else ""
    problem = load_problem(write_problem(tmp_path / "p", language, more))
    settings = change_settings(Settings(), {"sandbox.backend": backend}, where="")
    with closing(open_evaluators(problem, settings)) as pool:
        verdict = pool.evaluate(problem.initial)
    assert (verdict.status, verdict.objective) == (Status.OK, 6.0), verdict


def test_a_tool_that_programs_do_not_see_is_named_with_what_to_write(tmp_path: Path) -> None:
    tools = tmp_path / "tools/bin"
    tools.mkdir(parents=True)
    (tools / "triple").write_text("#!/bin/sh\nread x; echo $((3 * x))\n")
    (tools / "triple").chmod(0o755)
    language = Language("main.txt", "x\n", "triple")
    folder = write_problem(tmp_path / "p", language, f'[sandbox]\nshow = ["{tools.parent}"]\n')
    problem = load_problem(folder)
    with closing(open_evaluators(problem, Settings())) as pool:
        assert pool.evaluate(problem.initial).objective == 6.0


LOOKS = """import glob, os, sys
def refused(act):
    try: act()
    except OSError: return True
    return False
numbers = {int(name) for name in os.listdir("/proc") if name.isdigit()}
print(all((
    max(numbers) < 10,
    {name for name in os.listdir("/proc") if not name.isdigit()} == {"self", "thread-self"},
    all(refused(lambda: open(f"/proc/{number}/mem", "r+b")) for number in numbers),
    all(refused(lambda: open(path, "wb")) for path in glob.glob("/proc/1/fd/*")),
    refused(lambda: open("/proc/self/oom_score_adj", "w")),
    refused(lambda: open("/proc/sys/kernel/hostname")),
)) + 5)
"""


@pytest.mark.parametrize("backend", ["bubblewrap", "native"])
def test_a_command_sees_its_own_processes_and_writes_to_none(tmp_path: Path, backend: str) -> None:
    language = Language("main.py", LOOKS, "python3 main.py")
    problem = load_problem(write_problem(tmp_path / "p", language))
    settings = change_settings(Settings(), {"sandbox.backend": backend}, where="")
    with closing(open_evaluators(problem, settings)) as pool:
        assert pool.evaluate(problem.initial).objective == 6.0


@pytest.mark.parametrize("tool", ["run", "build"])
def test_a_tool_outside_the_system_is_asked_for(tmp_path: Path, tool: str) -> None:
    # One that is on the path here, and that no program sees: in the environment of these tests.
    name = "pytest"
    if shutil.which(name) is None or str(shutil.which(name)).startswith("/usr/"):
        pytest.skip("pytest is not started from an environment of its own")
    words = {"run": "true", "build": "", tool: name}
    problem = load_problem(write_problem(tmp_path / "p", Language("main.txt", "x\n", **words)))
    with closing(open_evaluators(problem, Settings())) as pool:
        reason = pool.evaluate(problem.initial).reason
    assert f"`{name}` is there for you in" in reason
    assert "under [sandbox], write `show = [" in reason


@pytest.mark.parametrize(
    "path", ["~", "/", "/home", "/home/someone", "~/.ssh", "~/.aws/x", "/etc/ssl", "/usr", "~/../"]
)
def test_a_home_or_keys_are_never_shown(tmp_path: Path, path: str) -> None:
    language = LANGUAGES["Perl"]
    folder = write_problem(tmp_path / "p", language, f'[sandbox]\nshow = ["{path}"]\n')
    with pytest.raises(ProblemError, match="which holds more than programs under search may see"):
        load_problem(folder)


def test_keys_among_a_shown_tool_chain_are_hidden(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    (tools / "bin").mkdir(parents=True)
    (tools / "credentials.toml").write_text("token = 'secret'\n")
    (tools / "bin/look").write_text(f"#!/bin/sh\ncat {tools}/credentials.toml; echo 1\n")
    (tools / "bin/look").chmod(0o755)
    language = Language("main.txt", "x\n", "look")
    folder = write_problem(tmp_path / "p", language, f'[sandbox]\nshow = ["{tools}"]\n')
    problem = load_problem(folder)
    with closing(open_evaluators(problem, Settings())) as pool:
        assert pool.evaluate(problem.initial).objective == 1.0
