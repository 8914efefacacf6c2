"""What `edgekit run` tells of models that generate."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import edgekit as package
from tests.cli.test_main import edgekit
from tests.runtime.conftest import linear_graph, write_bundle
from tests.runtime.generation.conftest import CONTEXT, EOS, RULES, write_generator

NEW = 12


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny decoder, with a chat template."""
    return write_generator(tmp_path_factory.mktemp("prompts") / "chat").path


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has much to say: no token is its end."""
    rules = replace(RULES, context=30_000, eos=(), suppress=(EOS,))
    return write_generator(tmp_path_factory.mktemp("prompts") / "endless", rules).path


def test_a_prompt_is_a_message_to_a_chat_model(chat: Path) -> None:
    """It gets the template, unless --raw says otherwise; as JSON it is what Python gets."""
    words = ("run", chat, "--max-new-tokens", NEW, "--json")
    told = []
    for more in (("--prompt", "the ferry"), ("--prompt", "the ferry", "--raw"), ("the ferry",)):
        done = edgekit(*words, *more)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout)["predictions"])
    talk = [{"role": "user", "content": "the ferry"}]
    with package.load(chat) as model:
        expected = [model([asked], max_new_tokens=NEW) for asked in (talk, "the ferry")]
    # A prompt as it stands is an argument like any other.
    assert told == [*expected, expected[1]]


def test_a_prompt_is_answered_as_text(chat: Path) -> None:
    """Without --json stdout holds the answer and a newline; controls are spelled out."""
    done = edgekit("run", chat, "--prompt", "to", "--raw", "--max-new-tokens", NEW)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n")
    assert [mark for mark in done.stdout[:-1] if ord(mark) < 32 and mark not in "\n\t"] == []


def test_lines_are_prompts(chat: Path) -> None:
    """One JSON line for each; a line that looks like JSON is a text like any other."""
    lines = '["a", "b"]\nthe ferry\n'
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", "run", str(chat), "--max-new-tokens", "3"],
        input=lines, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [json.loads(line)[0]["generated_text"] for line in done.stdout.splitlines()]
    assert [text[: len(line)] for text, line in zip(told, lines.splitlines(), strict=True)] == (
        lines.splitlines()
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--prompt", "a", "--max-new-tokens", "0"), "--max-new-tokens is a whole number"),
        (("--prompt", "a", "--temperature", "-1"), "Set --greedy for the likeliest"),
        (("--prompt", "x" * CONTEXT), "context"),
        (("--prompt", "a", "b"), "--prompt"),
        (("a", "--raw"), "--raw without --prompt"),
        (("--prompt", "a", "--num-beams", "2", "--sample"), "--num-beams 2 searches"),
        (("x" * CONTEXT,), "context"),
        (("--prompt", "a", "--language", "en"), "has no option '--language'"),
        (("--prompt", "a", "--no-speech-threshold", ".5"), "Its options: --sample, --max-new"),
        (("--prompt", '[{"role": 3}]'), "no message of a conversation"),
    ],
)
def test_what_does_not_fit(chat: Path, words: tuple[str, ...], said: str) -> None:
    """Each is wrong usage, and told before anything is answered."""
    done = edgekit("run", chat, *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--prompt", "a"), "generate"),
        (("x.npz", "--top-k", "3"), "generate"),
        (("x.npz", "--raw"), "--raw"),
    ],
)
def test_options_of_generation_need_a_generator(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    """A model that generates nothing has no prompt, no template and no temperature."""
    bundle = write_bundle(tmp_path / "linear", linear_graph(), task="custom").path
    done = edgekit("run", bundle, *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent to a whole console there")
def test_ctrl_c_ends_between_tokens(endless: Path) -> None:
    """The code is 130, and the shell's next line begins on one of its own."""
    words = ["run", endless, "--prompt", "to", "--temperature", "3", "--seed", "1"]
    words += ["--max-new-tokens", "25000"]
    with subprocess.Popen(
        [sys.executable, "-m", "edgekit", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        first = os.read(running.stdout.fileno(), 1)
        running.send_signal(signal.SIGINT)
        told, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert first + told[-1:] == first + b"\n"
    assert b"Traceback" not in said


TALK = [
    {"role": "user", "content": "the ferry"},
    {"role": "assistant", "content": "It leaves at nine."},
    {"role": "user", "content": "and back?"},
]


def test_a_prompt_may_be_a_conversation(chat: Path) -> None:
    """As JSON, with what was said before; with --raw it is a text like any other."""
    words = ("run", chat, "--max-new-tokens", NEW, "--json", "--prompt")
    told = []
    for more in ((json.dumps(TALK),), (json.dumps(TALK[:1]), "--raw"), ("[a] b",)):
        done = edgekit(*words, *more)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout)["predictions"][0])
    with package.load(chat) as model:
        asked = (TALK, json.dumps(TALK[:1]), [{"role": "user", "content": "[a] b"}])
        assert told == [model(one, max_new_tokens=NEW) for one in asked]


def test_a_conversation_needs_a_template(tmp_path: Path) -> None:
    """Without one nobody knows how it is written down."""
    bundle = write_generator(tmp_path / "plain", replace(RULES, chat=None)).path
    done = edgekit("run", bundle, "--prompt", json.dumps(TALK))
    assert done.returncode == 2, done.stderr
    assert "no chat template" in done.stderr
