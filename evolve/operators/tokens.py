"""Numbers and operators in files of other languages than Python, found by their look alone."""

from __future__ import annotations

import re
from functools import lru_cache

from evolve.errors import ProblemError
from evolve.operators.places import NAMED_WEIGHT, Number, Symbol, Syntax, make_syntax
from evolve.source import find_blocks, is_text

_C = (r"//[^\n]*", r"/\*.*?(?:\*/|\Z)")
_HASH = (r"#[^\n]*",)
# What is a comment, by the end of the file's name.
_COMMENTS = {
    **dict.fromkeys(("sh", "bash", "rb", "pl", "r", "jl", "nim", "ex", "exs", "awk", "tcl"), _HASH),
    **dict.fromkeys(("toml", "yaml", "yml", "cfg", "ini", "conf", "mk", "cmake"), _HASH),
    **dict.fromkeys(("lua", "sql", "hs", "elm", "ada", "adb", "vhd"), (r"--[^\n]*",)),
    **dict.fromkeys(("lisp", "scm", "clj", "el", "asm", "s"), (r";[^\n]*",)),
    **dict.fromkeys(("m", "erl", "tex", "pro"), (r"%[^\n]*",)),
    **dict.fromkeys(("f", "f90", "f95", "f03", "f08"), (r"![^\n]*",)),
    **dict.fromkeys(("ml", "mli"), (r"\(\*.*?(?:\*\)|\Z)",)),
    **dict.fromkeys(("txt", "json", "csv", "md", "rst", "prompt", "regex"), ()),
}
_STRING = r'"(?:\\.|[^"\\\n])*"'
# A quote may stand for more than a character: a lifetime in Rust, a mark between digits in C++.
_CHARACTER = r"'(?:\\[^\n]|\\x\w+|\\u\{\w+\}|[^'\\\n])'"
_TEXT = r"'(?:\\.|[^'\\\n])*'"
_DIGITS = r"\d+(?:_\d+)*(?:\.\d+|\.(?![\w.]))?(?:[eE][-+]?\d+)?"
_NUMBER = rf"(?P<number>(?<![\w)\]])\(-{_DIGITS}\)|{_DIGITS}|(?<![\w)\].])\.\d+(?:[eE][-+]?\d+)?)"
# Numbers with another base, with leading zeros or several dots, and what only looks like one.
_OTHER = r"0[xXbBoO]\w+|0\d+(?![\w.])|\d[\d_]*(?:\.\d+){2,}|\d[\d_]*'[\d']+|[A-Za-z_$]\w*"
# In text and data a sign is part of the number; what looks like a date or a time is left alone.
_SIGNED = rf"(?P<number>(?<![\w)\].:-])-?(?:{_DIGITS}|\.\d+(?:[eE][-+]?\d+)?)(?![-:]?\d))"
_SYMBOL = r"(?<=\s)(?P<symbol><=|>=|==|!=|&&|\|\||[-+*/<>])(?=\s)"
_GROUPS = (("+", "-", "*", "/"), ("<", "<=", ">", ">=", "==", "!="), ("&&", "||"))
_NAMED = re.compile(r"(?:(?<![=<>!])=|#define\s+\w+|[{\[,:])\s*$")
_LONGEST_LEAD = 80


@lru_cache(maxsize=128)
def read_tokens(text: str, path: str) -> Syntax | None:
    """Reads a file of any language; returns None when its markers are unbalanced.

    Strings and comments are skipped. No expression or statement is known: operators that
    change those find no place. In text and data there are numbers alone.

    Args:
        text: The file.
        path: Its name, which tells the language.
    """
    try:
        blocks = find_blocks(text)
    except ProblemError:
        return None
    numbers: list[Number] = []
    symbols: list[Symbol] = []
    has_code = not is_text(path)
    for token in _pattern(path.rpartition(".")[2].lower(), has_code=has_code).finditer(text):
        start, end = token.span()
        if not any(block.start <= start and end <= block.end for block in blocks):
            continue
        if token["number"] is not None:
            numbers.append(_read_number(text, start, end, is_guarded=has_code))
        elif token["symbol"] is not None:
            group = next(group for group in _GROUPS if token["symbol"] in group)
            symbols.append(Symbol(start, end, group))
    return make_syntax(text, tuple(numbers), symbols=tuple(symbols))


@lru_cache(maxsize=32)
def _pattern(extension: str, *, has_code: bool) -> re.Pattern[str]:
    comments = _COMMENTS.get(extension, _C)
    quoted = _TEXT if comments == _HASH or extension in {"js", "ts", "lua", "sql"} else _CHARACTER
    found = (_NUMBER, _SYMBOL) if has_code else (_SIGNED, r"(?P<symbol>(?!))")
    return re.compile("|".join((*comments, _STRING, quoted, _OTHER, *found)), re.DOTALL)


def _read_number(text: str, start: int, end: int, *, is_guarded: bool) -> Number:
    digits = text[start:end].strip("()").replace("_", "")
    value: int | float = int(digits) if digits.lstrip("-").isdigit() else float(digits)
    is_named = _NAMED.search(text, max(0, start - _LONGEST_LEAD), start) is not None
    return Number(start, end, value, NAMED_WEIGHT if is_named else 1.0, is_guarded)
