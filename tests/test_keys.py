"""Keys in the environment, cut out of texts."""

import subprocess
import sys
from urllib.parse import quote

import pytest

KEY = "sk-Proj/4a9+Zx=0123456789"
CUT = "import sys; from evolve.keys import cut_keys; sys.stdout.write(cut_keys(sys.stdin.read()))"


def cut(text: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CUT], input=text, capture_output=True, text=True, check=True,
        env=environment,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "HF_TOKEN", "aws_secret_access_key", "DB_PASSWORD", "GITHUB_PAT", "MY_AUTH",
     "GOOGLE_CREDENTIALS"],
)  # fmt: skip
@pytest.mark.parametrize(
    "text",
    [KEY, f"Incorrect API key provided: {KEY}.", f"?key={quote(KEY, safe='')}&x", f"a{KEY}b"],
)
def test_a_key_is_named_instead_of_shown(name, text):
    shown = cut(text, **{name: KEY})
    assert KEY not in shown
    assert quote(KEY, safe="") not in shown
    assert f"[{name}]" in shown


def test_every_line_of_a_private_key_is_cut_out():
    lines = [
        "-----BEGIN PRIVATE KEY-----",
        "MIIEvQIBADANBgkqhkiG9w0BAQ",
        "aGVsbG8gd29ybGQgaGVsbG8K",
    ]
    shown = cut("first " + lines[1] + "\nthen " + lines[2], TLS_KEY="\n".join(lines))
    assert not any(line in shown for line in lines)


def test_the_longer_of_two_keys_is_cut_first():
    assert cut(f"{KEY}-more", A_KEY=KEY, B_KEY=f"{KEY}-more") == "[B_KEY]"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SOME_KEY", "none"),
        ("TOKEN_USE", "evaluation"),
        ("SSH_KEY", "/home/me/.ssh/id"),
        ("LANG", "de_DE.UTF-8"),
        ("EVOLVE_SET_MODELS__PLAN_TOKENS", "123456789"),
        ("EMPTY_KEY", "  "),
    ],
)
def test_words_paths_and_other_variables_are_no_keys(name, value):
    text = f"the value {value} stays"
    assert cut(text, **{name: value}) == text
