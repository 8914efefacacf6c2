"""Channels of convolutional networks, through their residuals and depthwise convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import ConfigError, PruneError, SourceError
from edgekit.pruning.counting import count
from edgekit.pruning.cutters import ChannelCutter
from edgekit.pruning.distances import answers_of
from edgekit.pruning.feeding import Batch
from edgekit.pruning.reconstruction import estimate_norms, repair
from edgekit.pruning.sensitivity import measure_sensitivity
from edgekit.pruning.structures import cut, structures_of
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from edgekit.sources.pruned.folder import save_pruned
from edgekit.sources.pruned.plan import PLAN_NAME, Plan, read_plan
from tests.picture_models import FAMILIES, save_picture_model

pytest.importorskip("torch_pruning", reason="comes with the build extra")

from edgekit.pruning.channels import channel_plan
from edgekit.pruning.proving import check_cut

NETWORKS = '''
import torch
from torch import nn


class Net(nn.Module):
    """A stem, a residual block with a depthwise convolution, and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.wide = nn.Conv2d(32, 64, 1)
        self.deep = nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.narrow = nn.Conv2d(64, 32, 1)
        self.head = nn.Linear(32 * 4, 10)

    def forward(self, image):
        x = torch.relu(self.norm(self.stem(image)))
        x = x + self.narrow(torch.relu(self.deep(torch.relu(self.wide(x)))))
        return {"logits": self.head(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))}


def net():
    torch.manual_seed(0)
    return Net().eval(), {"image": torch.rand(2, 1, 12, 12)}


class Counting(nn.Module):
    """Its forward adds up pairs of channels, which the graph does not see."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 32, 3)
        self.second = nn.Conv2d(16, 16, 3)
        self.head = nn.Linear(16, 10)

    def forward(self, image):
        x = torch.relu(self.first(image))
        x = x[:, :16] + x[:, 16:]
        return {"logits": self.head(self.second(x).mean((2, 3)))}


class Joined(nn.Module):
    """Concatenates two branches of different widths, behind which stands a pooling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3)
        self.left = nn.Conv2d(32, 32, 1)
        self.right = nn.Conv2d(32, 16, 1)
        self.head = nn.Linear(48 * 4, 10)

    def forward(self, image):
        x = torch.relu(self.stem(image))
        x = torch.cat([self.left(x), self.right(x)], 1)
        return {"logits": self.head(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))}


def joined():
    torch.manual_seed(1)
    return Joined().eval(), {"image": torch.rand(2, 1, 12, 12)}


def counting():
    torch.manual_seed(1)
    return Counting().eval(), {"image": torch.rand(2, 1, 12, 12)}
'''


def network(folder: Path) -> str:
    """The file of a network of one's own, and its factory."""
    path = folder / "networks.py"
    path.write_text(NETWORKS)
    return f"{path}:net"


def samples(source: LoadedSource, *, labelled: bool = True) -> list[Batch]:
    """Random pictures of the source's size."""
    generator = torch.Generator().manual_seed(3)
    name, sample = next(iter(source.sample_inputs.items()))
    shape = (8, *sample.shape[1:])
    return [
        Batch(
            {name: torch.randn(shape, generator=generator)},
            torch.arange(8) % 5 if labelled else None,
        )
        for _ in range(3)
    ]


def saved(source: LoadedSource, plan: Plan, folder: Path) -> Path:
    """A folder of the cut source."""
    folder.mkdir()
    save_pruned(source, cut(source, plan), plan, folder)
    return folder


def test_cutting_equals_masking(tmp_path: Path) -> None:
    """What reads zeros in the place of channels answers as what has them no more."""
    source = open_source(network(tmp_path))
    assert structures_of(source) == ("channels",)
    plan = channel_plan(source, 0.5)
    model = source.module.model
    handles = []
    for row in plan.tensors:
        path, _, name = row.name.rpartition(".")
        if name == "weight" and row.axis == 1:
            part = model.get_submodule(path)
            mask = torch.zeros(row.size)
            mask[list(row.kept)] = 1
            mask = mask if isinstance(part, nn.Linear) else mask[:, None, None]
            handles.append(
                part.register_forward_pre_hook(lambda _, args, mask=mask: (args[0] * mask,))
            )
    with torch.inference_mode():
        expected = source.module(**source.sample_inputs)["logits"]
        for handle in handles:
            handle.remove()
        got = cut(source, plan).module(**source.sample_inputs)["logits"]
        whole = source.module(**source.sample_inputs)["logits"]
    assert len(handles) == 3
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(expected, whole, atol=1e-2)


def test_what_the_graph_does_not_see_is_refused(tmp_path: Path) -> None:
    """Rather than cut into something that answers otherwise."""
    network(tmp_path)
    source = open_source(f"{tmp_path / 'networks.py'}:counting")
    with pytest.raises(PruneError):
        channel_plan(source, 0.5)


def test_what_cannot_be_followed_stays(tmp_path: Path) -> None:
    """A concatenation keeps its channels, and what stands before it loses some."""
    network(tmp_path)
    source = open_source(f"{tmp_path / 'networks.py'}:joined")
    names = {row.name for row in channel_plan(source, 0.5).tensors}
    assert "stem.weight" in names
    assert "head.weight" not in names


def test_widths_are_what_engines_like(tmp_path: Path) -> None:
    """Multiples of 8; the output has all its classes."""
    source = open_source(network(tmp_path))
    pruned = cut(source, channel_plan(source, 0.4, samples(source)))
    convolutions = [part for part in pruned.module.modules() if isinstance(part, nn.Conv2d)]
    assert {part.out_channels % 8 for part in convolutions} == {0}
    deep = pruned.module.model.deep
    assert deep.groups == deep.in_channels == deep.out_channels == 40
    assert pruned.module.model.head.out_features == 10
    before, after = count(source), count(pruned)
    assert after.parameters < before.parameters
    assert after.flops < before.flops * 0.7
    assert not any(one.requires_grad for one in source.module.parameters())


@pytest.mark.parametrize("method", ["fisher", "taylor", "magnitude"])
def test_channels_without_effect_go_first(method: str, tmp_path: Path) -> None:
    """By every method, with labels and without."""
    source = open_source(network(tmp_path))
    with torch.no_grad():
        for name in ("wide", "deep"):
            part = getattr(source.module.model, name)
            part.weight[:32] = 0
            part.bias[:32] = 0
    for labelled in (True, False):
        plan = channel_plan(source, 0.5, samples(source, labelled=labelled), method)
        rows = {(row.name, row.axis): row.kept for row in plan.tensors}
        assert rows["wide.weight", 0] == rows["deep.weight", 0] == tuple(range(32, 64))
        assert rows["narrow.weight", 1] == tuple(range(32, 64))


def test_a_folder_of_a_module_of_ones_own(tmp_path: Path) -> None:
    """It holds weights and a plan; its code is run only where it is trusted."""
    spec = network(tmp_path)
    source = open_source(spec)
    plan = channel_plan(source, 0.5)
    folder = saved(source, plan, tmp_path / "pruned")
    with pytest.raises(SourceError, match="opening it runs that code"):
        open_source(str(folder))
    opened = open_source(str(folder), trust_remote_code=True)
    assert opened.origin is not None
    assert opened.origin.sha256 == source.sha256 != opened.sha256
    assert opened.dynamic_axes == source.dynamic_axes
    with torch.inference_mode():
        got = opened.module(**source.sample_inputs)["logits"]
        expected = cut(source, plan).module(**source.sample_inputs)["logits"]
    torch.testing.assert_close(got, expected)
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", PLAN_NAME}
    # Once more, from what is left.
    again = saved(opened, channel_plan(opened, 0.5), tmp_path / "again")
    twice = open_source(str(again), trust_remote_code=True)
    assert twice.parameters < opened.parameters
    assert twice.origin == opened.origin


def test_another_base_is_refused(tmp_path: Path) -> None:
    """The factory makes other weights than those that the plan was made for."""
    spec = network(tmp_path)
    source = open_source(spec)
    folder = saved(source, channel_plan(source, 0.5), tmp_path / "pruned")
    (tmp_path / "networks.py").write_text(NETWORKS.replace("manual_seed(0)", "manual_seed(5)"))
    with pytest.raises(SourceError, match="makes a model with other weights"):
        open_source(str(folder), trust_remote_code=True)


def test_norms_are_taken_anew(tmp_path: Path) -> None:
    """From the samples, all batches alike, and in eval mode again."""
    source = open_source(network(tmp_path))
    plan = channel_plan(source, 0.5)
    pruned = cut(source, plan)
    given = samples(source)
    report = repair(source, pruned, plan, given)
    assert report.norms == 1
    norm = pruned.module.model.norm
    with torch.inference_mode():
        seen = [pruned.module.model.stem(one.inputs["image"]).mean((0, 2, 3)) for one in given]
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(0))
    assert not norm.training
    assert norm.momentum == 0.1
    assert estimate_norms(nn.Linear(2, 2), given) == 0


def test_goals_that_are_none(tmp_path: Path) -> None:
    """Shares outside of 0 and 1, a method without its data, and nothing that could go."""
    source = open_source(network(tmp_path))
    for share in (0.0, 1.0, -0.5):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            channel_plan(source, share)
    with pytest.raises(ConfigError, match="needs data"):
        channel_plan(source, 0.5, None, "fisher")
    with pytest.raises(ConfigError, match="not rated by activations") as caught:
        channel_plan(source, 0.5, samples(source), "activations")
    assert caught.value.hint == "Choose auto or fisher, taylor, magnitude (--method)."
    with pytest.raises(PruneError, match="No channels can go"):
        channel_plan(source, 0.01)


def normed(folder: Path, norm: str) -> LoadedSource:
    """A network of two convolutions with a norm between them."""
    path = folder / "normed.py"
    path.write_text(
        f"""
import torch
from torch import nn


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(32)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def made():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 32, 3), {norm}, nn.ReLU(), nn.Conv2d(32, 32, 3), nn.Flatten(1)]
    model = nn.Sequential(*layers, nn.Linear(32 * 16, 4))
    return model.eval(), {{"input": torch.rand(2, 1, 8, 8)}}
"""
    )
    return open_source(f"{path}:made")


@pytest.mark.parametrize("norm", ["nn.GroupNorm(1, 32)", "Last()", "nn.BatchNorm2d(32)"])
def test_what_a_norm_sees_is_cut_and_checked(norm: str, tmp_path: Path) -> None:
    """The check counts the statistics of the channels that stay."""
    plan = channel_plan(normed(tmp_path, norm), 0.5)
    assert {row.name for row in plan.tensors} >= {"0.weight", "3.weight"}
    assert {len(row.kept) for row in plan.tensors if row.size == 32} == {16}


def test_a_wrong_cut_behind_a_norm_is_found(tmp_path: Path) -> None:
    """A norm takes nothing from the check of what else goes wrong."""
    source = normed(tmp_path, "nn.GroupNorm(1, 32)")
    plan = channel_plan(source, 0.5)
    rows = [
        replace(row, kept=tuple(range(16, 32)) if row.kept != tuple(range(16, 32)) else row.kept)
        if row.name == "1.weight"
        else row
        for row in plan.tensors
    ]
    assert rows != list(plan.tensors)
    with torch.no_grad():
        source.module.model.get_submodule("1").weight.uniform_(1, 9)
    with pytest.raises(PruneError, match="were not followed rightly"):
        check_cut(source, replace(plan, tensors=tuple(rows)))


def test_channels_of_a_norm_by_groups_stay(tmp_path: Path) -> None:
    """Others would share a mean than did before; what is behind them may go."""
    plan = channel_plan(normed(tmp_path, "nn.GroupNorm(4, 32)"), 0.5)
    assert {row.name for row in plan.tensors} == {"3.bias", "3.weight", "5.weight"}
    assert {row.axis for row in plan.tensors if row.name == "3.weight"} == {0}


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.7])
def test_a_ratio_is_one_of_parameters(ratio: float, tmp_path: Path) -> None:
    """The least cut that takes that share of them, in steps of 8 channels."""
    source = open_source(network(tmp_path))
    cutter = ChannelCutter(source, None, "auto")
    plan = cutter.plan(ratio, ())
    assert plan is not None
    cut_away = 1 - cut(source, plan).parameters / source.parameters
    assert cut_away == pytest.approx(cutter.saved(plan))
    assert ratio <= cut_away < ratio + 0.3
    assert cutter.used == "magnitude"
    assert cutter.plan(cutter.deepest() + 1e-6, ()) is None


def test_the_graph_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever number of shares is tried; with data auto goes by gradients."""
    source = open_source(network(tmp_path))
    cutter = ChannelCutter(source, samples(source), "auto")
    assert cutter.used == "fisher"
    monkeypatch.setattr("edgekit.pruning.channels._groups", None)
    assert cutter.plan(0.3, ()) != cutter.by_parameters().plan(0.6, ())


def test_a_share_that_takes_nothing_costs_nothing(tmp_path: Path) -> None:
    """Of a network 16 wide the first step is half of the channels."""
    path = tmp_path / "narrow.py"
    path.write_text(NETWORKS.replace("64", "16").replace("32", "16"))
    source = open_source(f"{path}:net")
    cutter = ChannelCutter(source, None, "magnitude")
    asked: list[str] = []

    def time_all(plans: Mapping[str, Plan | None]) -> dict[str, float]:
        asked.extend(plans)
        return {name: 10.0 if plan is None else 6.0 for name, plan in plans.items()}

    cutter.time(time_all)
    assert asked == ["whole", "0.5 of the channels"]
    assert cutter.milliseconds == {0.0: 10.0, 0.5: 6.0}
    plan = cutter.plan(0.05, ())
    assert plan is not None
    assert {len(row.kept) for row in plan.tensors if row.name != "head.weight"} == {8}
    assert cutter.plan(0.5, ()) is None


def test_a_narrow_network_is_foretold_by_its_own_widths(tmp_path: Path) -> None:
    """Time changes in steps: what is foretold of a cut was measured, and nothing less would do."""
    source = open_source(network(tmp_path))
    cutter = ChannelCutter(source, None, "magnitude")
    made: dict[str, float] = {}

    def time_all(plans: Mapping[str, Plan | None]) -> dict[str, float]:
        for name, plan in plans.items():
            # As much faster as parameters go, and a little that never goes.
            made[name] = 1 + 9 * (1.0 if plan is None else 1 - cutter.saved(plan))
        return made

    cutter.time(time_all)
    assert 2 < len(made) <= 7
    for share in (0.1, 0.3, 0.5):
        plan = cutter.plan(share, ())
        assert plan is not None
        taken = 1 + 9 * (1 - cutter.saved(plan))
        assert cutter.speedup(plan) == pytest.approx(10 / taken, rel=0.02)
        less = [ms for ms in made.values() if ms > taken]
        assert taken <= 10 * (1 - share) < min(less)


def test_sensitivity_of_a_narrow_network(tmp_path: Path) -> None:
    """Each width once, with the share of the parameters that it takes."""
    source = open_source(network(tmp_path))
    given = samples(source)
    rows = measure_sensitivity(
        source, ChannelCutter(source, None, "auto"), ("channels",), answers_of(source, given),
        lambda made, plan: None,
    )  # fmt: skip
    ratios = [row.ratio for row in rows]
    assert ratios == sorted(set(ratios))
    assert [row.parameters for row in rows] == [
        pytest.approx(source.parameters * (1 - ratio), abs=2) for ratio in ratios
    ]


def wide(family: str, folder: Path) -> Path:
    """A picture model wide enough that channels can go."""
    import transformers

    save_picture_model(family, folder)
    config = FAMILIES[family].config()
    if family == "mobilenet-v2":
        config.depth_multiplier = 1.0
    elif family == "resnet":
        config.embedding_size, config.hidden_sizes = 32, [32, 64]
    else:
        config.hidden_sizes = [32, 64]
    torch.manual_seed(0)
    model = getattr(transformers, FAMILIES[family].model)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 4:
                nn.init.kaiming_normal_(parameter)
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", ["resnet", "mobilenet-v2", "convnext"])
def test_both_engines_answer_like_the_pruned_module(family: str, tmp_path: Path) -> None:
    """Families of transformers' pictures, by a folder with their own config."""
    source = open_source(str(wide(family, tmp_path / "model")))
    given = samples(source)
    plan = channel_plan(source, 0.5, given)
    pruned = cut(source, plan)
    repair(source, pruned, plan, given)
    folder = tmp_path / "pruned"
    folder.mkdir()
    save_pruned(source, pruned, plan, folder)
    assert not read_plan(folder).written
    opened = open_source(str(folder))
    edgekit.export(str(tmp_path / "model"), tmp_path / "whole-bundle")
    edgekit.export(str(folder), tmp_path / "bundle")
    with torch.inference_mode():
        reference = opened.module(**opened.sample_inputs)["logits"]
        _same(reference, pruned.module(**opened.sample_inputs)["logits"].numpy())
    for engine in ("onnxruntime", "openvino"):
        with edgekit.load(tmp_path / "bundle", engine=engine, threads=1) as model:
            feeds = {name: one.numpy() for name, one in opened.sample_inputs.items()}
            _same(reference, model.run(feeds)["logits"])
    stated = open_bundle(tmp_path / "bundle").manifest.source
    assert stated is not None
    assert stated.origin.sha256 == source.sha256
    assert stated.parameters < source.parameters
    assert count(opened).flops < 0.8 * count(source).flops
    less = open_bundle(tmp_path / "whole-bundle").bytes() - open_bundle(tmp_path / "bundle").bytes()
    assert less > 4 * (source.parameters - stated.parameters) * 0.95


@pytest.mark.slow
def test_a_module_of_ones_own_on_both_engines(tmp_path: Path) -> None:
    """Its folder is exported like any source, and names the whole module as its origin."""
    spec = network(tmp_path)
    source = open_source(spec)
    plan = channel_plan(source, 0.5, samples(source))
    folder = saved(source, plan, tmp_path / "pruned")
    edgekit.export(str(folder), tmp_path / "bundle", trust_remote_code=True)
    with torch.inference_mode():
        reference = cut(source, plan).module(**source.sample_inputs)["logits"]
    for engine in ("onnxruntime", "openvino"):
        with edgekit.load(tmp_path / "bundle", engine=engine, threads=1) as model:
            feeds = {name: one.numpy() for name, one in source.sample_inputs.items()}
            _same(reference, model.run(feeds)["logits"])
    stated = open_bundle(tmp_path / "bundle").manifest.source
    assert stated is not None
    assert stated.origin.sha256 == source.sha256
    assert stated.parameters < source.parameters


def _same(expected: Tensor, got: np.ndarray) -> None:
    wanted = expected.numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-4 * abs(wanted).max() + 1e-5)


def test_a_plan_of_another_network_is_refused(tmp_path: Path) -> None:
    """Names and widths are checked before anything is cut."""
    source = open_source(network(tmp_path))
    plan = channel_plan(source, 0.5)
    wrong = replace(plan, tensors=(replace(plan.tensors[0], size=99), *plan.tensors[1:]))
    with pytest.raises(SourceError, match="channels, not 99"):
        cut(source, wrong)
    unknown = replace(plan, tensors=(replace(plan.tensors[0], name="nothing.weight"),))
    with pytest.raises(SourceError, match=r"no nothing.weight"):
        cut(source, unknown)
