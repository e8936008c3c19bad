"""Population based training: how a generation decides the next one, and which weights stay."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from raylab.analysis.generations import in_generations, is_population
from raylab.analysis.next_grid import Wish, next_grid
from raylab.config.expand import count_trials
from raylab.config.files import parent_of
from raylab.config.grid import read_grid
from raylab.config.identity import family_id, trial_id
from raylab.config.population import Population, first_generation, next_generation, step
from raylab.config.sweep import SEARCH_OPTIONS, Distribution, SweepConfig
from raylab.config.trial import TrialConfig
from raylab.errors import CannotFinish, Refused
from raylab.images.enough import undecoded
from raylab.images.source import scan
from raylab.images.split import split_fingerprint
from raylab.results.directory import ResultsDirectory
from raylab.results.record import Record, record_from
from raylab.storage import Folder
from raylab.sweep.parents import begun, copy_model, missing_weights, named_parents, refuse_learned
from raylab.sweep.plan import Plan
from raylab.sweep.queue import LATER, PopulationProposer
from raylab.sweep.shards import Images
from raylab.sweep.shelf import Shelf
from raylab.training.checkpoint import save_model
from raylab.training.model import build_model, normalization

GRID = """
name: bred
data: toy
trial: {model: cnn, epochs: 4}
axes:
  lr: {loguniform: [1.0e-4, 1.0e-2]}
  batch_size: {randint: [8, 65]}
  warmup_epochs: {uniform: [0.0, 5.0]}
  augment: [none, flip, light, strong]
search: {pbt: {population: 8, generations: 3}}
seeds: [7]
"""
PLACES = range(8)


@pytest.fixture
def bred(tmp_path: Path) -> SweepConfig:
    (tmp_path / "bred.yaml").write_text(GRID)
    return read_grid(tmp_path / "bred.yaml")


def identify(config: TrialConfig) -> str:
    return trial_id(config, "data")


def worth(config: TrialConfig) -> float | None:
    """A made-up outcome: more lr is better; a few trials fail."""
    return None if config.batch_size % 7 == 0 else config.lr


def test_only_failed_trials_of_the_newest_generation_may_run_again(tmp_path: Path) -> None:
    (tmp_path / "bred.yaml").write_text(GRID)
    plan = Plan(read_grid(tmp_path / "bred.yaml"), scan("toy:num=100"))
    known: dict[str, Record] = {}
    for _ in range(2):  # the whole first generation, and half of the second
        open_trials = [c for c in plan.configs(known) if plan.identify(c) not in known]
        for config in open_trials[: 8 - len(known) // 2]:
            status = "failed" if len(known) in (3, 9) else "complete"
            ended = record_from(
                config, "data", "split", [{"epoch": 1, "val_accuracy": config.lr}], status
            )
            known[plan.identify(config)] = ended
    assert len(known) == 12
    failed = [name for name, record in known.items() if record.status == "failed"]
    assert plan.to_retry(known) == {failed[1]}


def population(sweep: SweepConfig, outcomes: dict[str, float | None] | None = None) -> Population:
    return Population(sweep, lambda config: config, identify, outcomes or {})


def run(
    proposer: PopulationProposer, order: Callable[[list[TrialConfig]], list[TrialConfig]] = list
) -> list[list[TrialConfig]]:
    """The trials that ran, by generation; those of one end in the given order."""
    ran: list[list[TrialConfig]] = [[]]
    while (config := proposer.propose()) is not None:
        if config != LATER:
            ran[-1].append(config)
            continue
        for ended in order(ran[-1]):
            assert proposer.propose() == LATER
            proposer.observe(ended, worth(ended))
        ran.append([])
    return ran


def proposer(sweep: SweepConfig, outcomes: dict[str, float | None]) -> PopulationProposer:
    return PopulationProposer(population(sweep, outcomes), 24, lambda wanted: [])


def last_first(configs: list[TrialConfig]) -> list[TrialConfig]:
    return configs[::-1]


def test_a_generation_waits_for_the_last_of_the_one_before(bred: SweepConfig) -> None:
    ran = run(proposer(bred, {}))
    assert [len(generation) for generation in ran] == [8, 8, 8]
    assert count_trials(bred) == len({identify(c) for generation in ran for c in generation})
    assert all(config.pretrained is False for config in ran[0])
    for before, after in itertools.pairwise(ran):
        ids = {identify(config) for config in before}
        assert {parent_of(config.pretrained) for config in after} <= ids


def test_decisions_hang_on_outcomes_and_not_on_who_ended_first(bred: SweepConfig) -> None:
    assert run(proposer(bred, {})) == run(proposer(bred, {}), last_first)


def test_a_search_that_is_taken_up_again_decides_the_same(bred: SweepConfig) -> None:
    whole = [config for generation in run(proposer(bred, {})) for config in generation]
    for num in (3, 8, 13):
        known = {identify(config): worth(config) for config in whole[:num]}
        left = run(proposer(bred, known))
        assert [config for generation in left for config in generation] == whole[num:]


def test_another_seed_is_another_population(bred: SweepConfig) -> None:
    other = bred.model_copy(update={"seeds": (8,)})
    seen = {str(member.point) for sweep in (bred, other) for member in first_generation(sweep)}
    assert len(seen) == 16


def test_the_worst_and_the_failed_give_way_to_the_best(bred: SweepConfig) -> None:
    members = first_generation(bred)
    ids = [f"trial {place}" for place in PLACES]
    outcomes = [0.1, 0.9, None, 0.5, None, 0.8, None, 0.6]
    after = next_generation(bred, 2, members, ids, outcomes)
    for place in PLACES:
        if outcomes[place] is None:  # the three that failed are more than the quantile's two
            assert after[place].parent in ("trial 1", "trial 5")
            assert after[place].point != members[place].point
        else:
            assert (after[place].parent, after[place].point) == (ids[place], members[place].point)
    after = next_generation(bred, 2, members, ids, [0.1 * place for place in PLACES])
    copies = [place for place in PLACES if after[place].parent != ids[place]]
    assert copies == [0, 1]
    assert {after[place].parent for place in copies} <= {"trial 6", "trial 7"}


def test_with_a_loss_the_least_is_best(bred: SweepConfig) -> None:
    by_loss = bred.model_copy(update={"metric": "val_loss"})
    ids = [f"trial {place}" for place in PLACES]
    after = next_generation(by_loss, 2, first_generation(bred), ids, [float(p) for p in PLACES])
    assert [place for place in PLACES if after[place].parent != ids[place]] == [6, 7]


def test_where_all_failed_there_is_no_next_generation(bred: SweepConfig) -> None:
    first = population(bred)
    first.outcomes |= dict.fromkeys(first.trials, None)
    assert not first.grow()


def test_what_is_explored_stays_on_the_axes_and_near(bred: SweepConfig) -> None:
    parent = dict(first_generation(bred)[0].point)
    still = bred.model_copy(
        update={"search": bred.search.model_copy(update={"resample_probability": 0.0})}
    )
    ids = [f"trial {place}" for place in PLACES]
    members = [first_generation(bred)[0] for _ in PLACES]
    seen = set()
    for generation in range(2, 60):
        (*_, moved) = next_generation(still, generation, members, ids, [1.0] * 8)
        seen.add(moved.point["lr"])
        assert moved.point["lr"] in (
            pytest.approx(parent["lr"] * 0.8, rel=1e-4),
            pytest.approx(min(parent["lr"] * 1.25, 1e-2), rel=1e-4),
        )
        levels = ["none", "flip", "light", "strong"]
        jump = levels.index(moved.point["augment"]) - levels.index(parent["augment"])
        assert abs(jump) == 1
        assert moved.point["warmup_epochs"] < 4  # else it would not be < epochs
    assert len(seen) == 2


@pytest.mark.parametrize("factor", [0, 1])
def test_a_step_goes_somewhere_and_never_beyond_the_ends(factor: int) -> None:
    class Chosen:
        def choice(self, values):
            return values[min(factor, len(values) - 1)]

    whole, real = (Distribution(kind=kind, low=1, high=9) for kind in ("randint", "uniform"))
    assert step(whole, 2, Chosen()) == (1, 3)[factor]
    assert step(whole, 8, Chosen()) == (6, 8)[factor]
    assert step(whole, 1, Chosen()) == (1, 2)[factor]
    assert step(real, 8.0, Chosen()) == (6.4, 9.0)[factor]
    assert step(("none",), "none", Chosen()) == "none"


def test_the_parent_is_part_of_the_identity_and_of_the_family() -> None:
    names = [False, "trial:0123456789ab", "trial:ba9876543210"]
    configs = [TrialConfig(pretrained=name, seed=seed) for name in names for seed in (0, 1)]
    assert len({trial_id(config, "data") for config in configs}) == 6
    assert len({family_id(config, "data") for config in configs}) == 3
    assert trial_id(configs[2], "data") == "48f9296e5c0e"


def test_the_grid_is_read_as_it_is_written(bred: SweepConfig, tmp_path: Path) -> None:
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(bred.as_grid()))
    assert read_grid(tmp_path / "again.yaml") == bred
    assert bred.as_grid()["search"]["pbt"].keys() == set(SEARCH_OPTIONS["pbt"])


def test_weights_behind_a_uri_are_at_hand_while_the_trial_runs(tmp_path: Path) -> None:
    results = ResultsDirectory("mock:///results")
    config = TrialConfig(model="cnn", image_size=16, channels=1)
    state = build_model(config, 2).state_dict()
    save_model(tmp_path, config, ("a", "b"), state)
    copy_model(Folder(tmp_path), results.checkpoint("0123456789ab"))
    child = config.model_copy(update={"pretrained": "trial:0123456789ab"})
    assert missing_weights(results, ["0123456789ab", "ba9876543210"]) == ["ba9876543210"]
    with begun(child, results.location) as at_hand:
        place = Path(str(at_hand.pretrained)).parent
        assert normalization(at_hand) == normalization(config)
        again = build_model(at_hand, 2).state_dict()
        assert all(bool((again[name] == state[name]).all()) for name in state)
    assert not place.exists()


def test_a_parent_that_the_grid_names_stays(tmp_path: Path) -> None:
    text = "data: toy\naxes: {pretrained: [false, 'trial:0123456789ab'], lr: [0.1, 0.01]}\n"
    (tmp_path / "grid.yaml").write_text(text)
    assert named_parents(read_grid(tmp_path / "grid.yaml")) == {"0123456789ab"}


def parent_in(results: ResultsDirectory, images: Images, split: dict[str, Any], begins: str) -> str:
    """A finished trial of that split with its files, as far as others may begin with it."""
    config = TrialConfig.model_validate({"split": split, "pretrained": begins or False})
    sides = images.split(config.split)
    fingerprint = split_fingerprint(sides, images.image_ids)
    results.write_split(fingerprint, pa.table({"image_id": images.image_ids, "split": sides}))
    row = {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}
    record = record_from(config, images.fingerprint, fingerprint, [row], "complete", num_val=14)
    results.add(record)
    return record.trial_id


@pytest.mark.parametrize(
    ("axes", "is_leaky"),
    [
        ("lr: [0.1, 0.01]", False),
        ("split.seed: [0, 1]", True),
        ("lr: {uniform: [0.1, 0.2]}, split.seed: [0, 1]}\nsearch: {optuna: {num_trials: 2}", True),
    ],
)
@pytest.mark.parametrize("is_grandchild", [False, True])
def test_who_validates_on_what_its_parent_learned_is_refused(
    tmp_path: Path, axes: str, is_leaky: bool, is_grandchild: bool
) -> None:
    source, results = scan("toy:num=140"), ResultsDirectory(tmp_path)
    images = Images.of(undecoded(source), source.classes, source.fingerprint)
    split = {"strategy": "stratified", "test": 0.1, "seed": 0}
    parent = parent_in(results, images, split, "")
    if is_grandchild:
        parent = parent_in(results, images, split, f"trial:{parent}")
    (tmp_path / "grid.yaml").write_text(
        "data: toy\ntrial: {split.strategy: stratified, split.test: 0.1, "
        f"pretrained: 'trial:{parent}'}}\naxes: {{{axes}}}\n"
    )
    sweep = read_grid(tmp_path / "grid.yaml")
    beginnings = Plan(sweep, source).beginnings(named_parents(sweep))
    assert len(beginnings) == 1 + is_leaky
    if is_leaky:
        with pytest.raises(Refused, match=rf"trial {parent} trained on \d+ images .*held out"):
            refuse_learned(results, images, beginnings)
    else:
        refuse_learned(results, images, beginnings)


def test_a_parent_and_a_split_that_never_meet_are_no_beginning(tmp_path: Path) -> None:
    text = "data: toy\nlevers: [{pretrained: 'trial:0123456789ab'}, {split.seed: 1}]\n"
    (tmp_path / "grid.yaml").write_text(text)
    sweep = read_grid(tmp_path / "grid.yaml")
    ((parent, split),) = Plan(sweep, scan("toy:num=140")).beginnings(named_parents(sweep))
    assert (parent, split.seed) == ("0123456789ab", 0)


def test_a_generation_whose_parents_are_gone_does_not_begin(bred: SweepConfig) -> None:
    first = population(bred)
    known = {identity: worth(config) for identity, config in first.trials.items()}
    found = PopulationProposer(population(bred, known), 24, sorted)
    with pytest.raises(CannotFinish, match="generation 2 begins with the weights of trial"):
        found.propose()
    assert PopulationProposer(population(bred, known), 8, sorted).propose() is None


def ended(config: TrialConfig, accuracy: float) -> Record:
    row = {"epoch": 1, "val_accuracy": accuracy, "train_loss": 1.0, "val_loss": 1.0}
    return record_from(config, "data", "split", [row], "complete")


def test_parents_stay_until_their_children_have_ended(bred: SweepConfig, tmp_path: Path) -> None:
    results = ResultsDirectory(tmp_path)
    found = proposer(bred, {})
    shelf = Shelf(results, 1, "val_accuracy", found.needed)
    values: dict[str, float] = {}
    parents: dict[str, str | None] = {}
    while (config := found.propose()) is not None:
        assert config != LATER  # one at a time
        identity, parent = identify(config), parent_of(config.pretrained)
        assert parent is None or parent in results.checkpoint_ids()
        results.checkpoint(identity).write_bytes("model.json", b"")
        values[identity], parents[identity] = config.batch_size / 100, parent
        found.observe(config, values[identity])
        shelf.put(ended(config, values[identity]))
        shelf.clear()
    best = min(values, key=lambda name: (-values[name], name))
    assert results.checkpoint_ids() == {best, parents[best]} - {None}


def test_a_diagnosis_sees_generations_in_place_of_parents(bred: SweepConfig) -> None:
    began = ["false", "false", "trial:b", "trial:c", "trial:gone"]
    frame = pd.DataFrame({"trial_id": list("abcde"), "pretrained": began})
    levels = ["false", "false", "generation 2", "generation 3", "generation 2"]
    assert list(in_generations(frame)["pretrained"]) == levels
    assert is_population(bred.as_grid())
    assert next_grid(bred.as_grid(), [], Wish(more_seeds=True)).grid["seeds"] == [8]
