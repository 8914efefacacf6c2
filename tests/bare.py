"""The wheel on a bare machine: ``python -m tests.bare`` (``make test-bare``).

Builds the wheel, installs it into fresh environments and uses it there as a device would:
(1) the base alone: every module that ships imports, and what is missing is named with its remedy;
(2) with an engine and the tokenizers: load, predict, verify and bench a bundle, without torch;
(3) with Pillow: classify a picture and draw detections, without torch;
(4) with soundfile and soxr: label a sound and write down speech, without torch;
(5) with jinja2: stream a text, answer a chat and translate, without torch;
(6) with tokenizers and soundfile: write down speech as Whisper does, without torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What a device imports, and the whole with the workstation's half.
DEVICE_MAX_BYTES = 300_000
WHEEL_MAX_BYTES = 1_250_000
PACKAGES_MAX = 10

IMPORT_ALL = """
import importlib, pkgutil, sys
import edgekit.core, edgekit.runtime
count = 0
for package in (edgekit.core, edgekit.runtime):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        count += 1
heavy = {"torch", "transformers", "onnx", "onnxruntime", "openvino", "tokenizers"}
heavy &= set(sys.modules)
assert not heavy, heavy
from edgekit.core.profiles import list_profiles
assert len(list_profiles()) >= 11, "the profiles are not in the wheel"
print(count)
"""

PREDICT = """
import json, sys
import edgekit
with edgekit.load(sys.argv[1]) as model:
    answer = model("A great film.")
    assert all(row.passed for row in model.selftest())
heavy = {"torch", "transformers", "onnx", "optimum"} & set(sys.modules)
assert not heavy, heavy
print(json.dumps(answer))
"""


CLASSIFY = """
import json, sys
import edgekit
with edgekit.load(sys.argv[1]) as model:
    answer = model(sys.argv[2])
    assert all(row.passed for row in model.selftest())
heavy = {"torch", "transformers", "onnx", "tokenizers"} & set(sys.modules)
assert not heavy, heavy
print(json.dumps(answer[0]))
"""

GENERATE = """
import json, sys
import edgekit
with edgekit.load(sys.argv[1]) as model:
    talk = [{"role": "user", "content": "the ferry"}]
    streamed = "".join(model.stream("the ferry", max_new_tokens=12))
    answer = model(talk, max_new_tokens=12)[0]["generated_text"]
with edgekit.load(sys.argv[2]) as model:
    translated = model(json.loads(sys.argv[3]), max_new_tokens=24, min_new_tokens=16, num_beams=2)
    assert all(row.passed for row in model.selftest())
heavy = {"torch", "transformers", "onnx", "optimum"} & set(sys.modules)
assert not heavy, heavy
print(json.dumps({"streamed": streamed, "answer": answer, "translated": translated}))
"""


def run(*command: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in an empty environment; AssertionError with its output on another code."""
    environment = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir()}
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "PIP_FIND_LINKS"):
        if name in os.environ:
            environment[name] = os.environ[name]
    done = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True
    )
    assert done.returncode == expect, (
        f"{' '.join(map(str, command))} ended with {done.returncode}, not {expect}:\n"
        f"{done.stdout}\n{done.stderr}"
    )
    return done


def build_wheel(folder: Path) -> Path:
    """The project's wheel, built into `folder`."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "-w", folder, ROOT)  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_bundle(folder: Path) -> Path:
    """A text classifier with random weights, exported by the full installation."""
    import edgekit
    from tests.models import save_model

    source = save_model("bert", "text-classification", folder / "source")
    edgekit.export(str(source), folder / "bundle")
    return folder / "bundle"


def make_pictures(folder: Path) -> tuple[Path, Path, Path]:
    """A classifier and a detector of pictures with random weights, and a picture."""
    import edgekit
    from tests.picture_models import picture, save_picture_model

    for family in ("vit", "detr"):
        source = save_picture_model(family, folder / f"{family}-source")
        edgekit.export(str(source), folder / family)
    picture().save(folder / "picture.jpg")
    return folder / "vit", folder / "detr", folder / "picture.jpg"


def make_sounds(folder: Path) -> tuple[Path, Path, Path]:
    """A classifier and a transcriber of sounds with random weights, and a sound."""
    import numpy as np
    import soundfile

    import edgekit
    from edgekit.sources.sounds import compose
    from tests.sound_models import save_sound_model

    for family in ("ast", "wav2vec2-ctc"):
        source = save_sound_model(family, folder / f"{family}-source")
        edgekit.export(str(source), folder / family)
    sound = compose(44_100, 0, 44_100)
    soundfile.write(folder / "sound.flac", np.stack([sound, sound], axis=1), 44_100)
    return folder / "ast", folder / "wav2vec2-ctc", folder / "sound.flac"


def make_generators(folder: Path) -> tuple[Path, Path, list[str], list[str]]:
    """A chat model and a translator with random weights, texts and what PyTorch makes of them."""
    import torch
    import transformers

    import edgekit
    from tests.runtime.generation.conftest import write_generator
    from tests.text_models import PROMPTS, save_generator

    source = save_generator("marian", folder / "marian-source")
    edgekit.export(str(source), folder / "marian")
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(source).eval()
    texts = list(PROMPTS)
    options = {"max_new_tokens": 24, "min_new_tokens": 16, "num_beams": 2}
    expected = []
    for text in texts:
        with torch.inference_mode():
            found = model.generate(**tokenizer(text, return_tensors="pt"), **options)
        expected.append(tokenizer.decode(found[0], skip_special_tokens=True))
    chat = write_generator(folder / "chat").path
    return chat, folder / "marian", texts, expected


def make_whisper(folder: Path) -> tuple[Path, Path, str]:
    """A small random Whisper, a sound of two seconds, and what transformers hears in it."""
    import soundfile

    import edgekit
    from edgekit.sources.sounds import compose
    from tests.speech_models import save_speech_model
    from tests.test_speech import Theirs

    source = save_speech_model("multilingual", folder / "whisper-source")
    edgekit.export(str(source), folder / "whisper")
    wave = compose(31_000, 3)
    soundfile.write(folder / "said.wav", wave, 16_000, subtype="FLOAT")
    theirs = Theirs(source)
    text = str(theirs.answer(theirs.tokens([wave], language="de")[0], times=False)["text"])
    return folder / "whisper", folder / "said.wav", text


def environment(folder: Path) -> Path:
    """The python of a fresh virtual environment."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def stage_base(python: Path, wheel: Path, bundle: Path) -> None:
    """Base only: everything that ships imports, and what is missing is named."""
    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    modules = run(python, "-I", "-c", IMPORT_ALL).stdout.strip()
    missing = run(python, "-I", "-m", "edgekit", "verify", bundle, "--json", expect=3)
    error = json.loads(missing.stdout)["error"]
    assert error["kind"] == "MissingDependency", error
    assert "pip install 'edgekit-ml[ort]'" in error["hint"], error
    for words in (["export", "m:f", "-o", "b"], ["validate", bundle, "--reference", "m:f"]):
        done = run(python, "-I", "-m", "edgekit", *words, "--json", expect=3)
        assert "pip install" in json.loads(done.stdout)["error"]["hint"], done.stdout
    run(python, "-I", "-m", "edgekit", "inspect", bundle)
    run(python, "-I", "-m", "edgekit", "targets")
    run(python, "-I", "-m", "edgekit", "doctor")
    print(f"base: {modules} modules import; a missing engine is exit 3 with its pip line")


def stage_runtime(python: Path, wheel: Path, bundle: Path) -> None:
    """With an engine, then with tokenizers: what an app does."""
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[ort]")
    listed = json.loads(run(python, "-m", "pip", "list", "--format", "json").stdout)
    packages = {package["name"] for package in listed} - {"pip", "setuptools"}
    assert len(packages) <= PACKAGES_MAX, sorted(packages)
    missing = run(python, "-I", "-m", "edgekit", "run", bundle, "hello", "--json", expect=3)
    assert "edgekit-ml[text]" in json.loads(missing.stdout)["error"]["hint"]
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[ort,text]")
    answer = run(python, "-I", "-c", PREDICT, bundle).stdout.strip()
    verified = json.loads(run(python, "-I", "-m", "edgekit", "verify", bundle, "--json").stdout)
    assert verified["passed"], verified
    benched = json.loads(run(python, "-I", "-m", "edgekit.runtime.bench", bundle, "--json").stdout)
    assert benched["contenders"][0]["p50_ms"] > 0, benched
    print(f"ort: {len(packages)} packages; ort,text: predicts {answer}, verifies, benches")


def stage_vision(python: Path, wheel: Path, made: tuple[Path, Path, Path]) -> None:
    """With Pillow: a picture is classified, detections are drawn, without torch."""
    classifier, detector, picture = made
    missing = run(python, "-I", "-m", "edgekit", "run", classifier, picture, "--json", expect=3)
    assert "edgekit-ml[vision]" in json.loads(missing.stdout)["error"]["hint"]
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[ort,vision]")
    answer = run(python, "-I", "-c", CLASSIFY, classifier, picture).stdout.strip()
    drawn = picture.parent / "drawn"
    run(python, "-I", "-m", "edgekit", "run", detector, picture, "--save", drawn)
    assert [path.name for path in drawn.iterdir()] == ["picture.png"]
    print(f"ort,vision: classifies {answer}, draws detections")


def stage_audio(python: Path, wheel: Path, made: tuple[Path, Path, Path]) -> None:
    """With soundfile and soxr: a sound is labelled, speech written down, without torch."""
    classifier, transcriber, sound = made
    missing = run(python, "-I", "-m", "edgekit", "run", classifier, sound, "--json", expect=3)
    assert "edgekit-ml[audio]" in json.loads(missing.stdout)["error"]["hint"]
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[ort,audio]")
    answer = run(python, "-I", "-c", CLASSIFY, classifier, sound).stdout.strip()
    done = run(python, "-I", "-m", "edgekit", "run", transcriber, sound)
    said = json.loads(done.stdout)
    assert said["sound"] == str(sound), said
    assert said["prediction"]["text"], said
    print(f"ort,audio: labels {answer}, writes down {said['prediction']['text'][:20]!r}…")


def stage_generation(
    python: Path, wheel: Path, made: tuple[Path, Path, list[str], list[str]]
) -> None:
    """With jinja2: a text is streamed, a chat answered, texts translated, without torch."""
    chat, translator, texts, expected = made
    words = ("run", chat, "--prompt", "the ferry", "--max-new-tokens", "12", "--json")
    missing = run(python, "-I", "-m", "edgekit", *words, expect=3)
    assert "edgekit-ml[chat]" in json.loads(missing.stdout)["error"]["hint"]
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[ort,text,chat]")
    done = run(python, "-I", "-c", GENERATE, chat, translator, json.dumps(texts))
    told = json.loads(done.stdout)
    assert [one["translation_text"] for one in told["translated"]] == expected, told
    streamed = json.loads(run(python, "-I", "-m", "edgekit", *words, "--raw").stdout)
    assert streamed["predictions"] == [[{"generated_text": "the ferry" + told["streamed"]}]]
    answered = json.loads(run(python, "-I", "-m", "edgekit", *words).stdout)
    assert answered["predictions"] == [[{"generated_text": told["answer"]}]], answered
    asked = ("--length", "8", "--max-new-tokens", "4", "--budget", "0.5", "--processes", "1")
    program = ("-m", "edgekit.runtime.bench", translator, *asked, "--json")
    (row,) = json.loads(run(python, "-I", *program).stdout)["contenders"]
    assert row["first_token_ms"]["p50"] > 0 < row["tokens_per_second"], row
    print(f"ort,text,chat: streams, chats, translates {len(texts)} texts as PyTorch does, benches")


def stage_speech(python: Path, wheel: Path, made: tuple[Path, Path, str]) -> None:
    """With tokenizers and soundfile: what is said is written down, without torch."""
    bundle, sound, expected = made
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[ort,text,audio]")
    done = run(python, "-I", "-m", "edgekit", "run", bundle, sound, "--language", "german")
    said = json.loads(done.stdout)
    assert said == {"sound": str(sound), "prediction": {"text": expected}}, said
    run(python, "-I", "-c", "import importlib.util as u; assert not u.find_spec('torch')")
    print("ort,text,audio: hears as Whisper does in PyTorch")


def device_bytes(wheel: Path) -> int:
    """What of a wheel is for a device, as it is packed: core, runtime and profiles."""
    parts = ("edgekit/core/", "edgekit/runtime/", "edgekit/_targets/")
    with zipfile.ZipFile(wheel) as archive:
        return sum(
            entry.compress_size for entry in archive.infolist() if entry.filename.startswith(parts)
        )


def main() -> None:
    """All stages."""
    with tempfile.TemporaryDirectory(prefix="edgekit-bare-") as name:
        folder = Path(name)
        wheel = build_wheel(folder)
        size, device = wheel.stat().st_size, device_bytes(wheel)
        assert size <= WHEEL_MAX_BYTES, f"the wheel has {size} bytes"
        assert device <= DEVICE_MAX_BYTES, f"the device's half of the wheel has {device} bytes"
        print(f"wheel: {size:,} bytes, {device:,} of them for a device")
        bundle = make_bundle(folder)
        python = environment(folder / "bare")
        stage_base(python, wheel, bundle)
        stage_runtime(python, wheel, bundle)
        stage_vision(python, wheel, make_pictures(folder))
        stage_audio(python, wheel, make_sounds(folder))
        stage_generation(python, wheel, make_generators(folder))
        stage_speech(python, wheel, make_whisper(folder))


if __name__ == "__main__":
    main()
