"""Augmentation: drawn per image, reproducible, within 0..1, and each operation does its own."""

import numpy as np
import pytest
import torch

from raylab.config.trial import AUGMENT_PRESETS, AugmentConfig
from raylab.training.affine import resample
from raylab.training.augment import Augment
from raylab.training.mixing import mix
from raylab.training.operations import OPERATIONS, Drawn
from raylab.training.policies import (
    AUGMIX_OPERATIONS,
    NARROW,
    NUM_CHAINS,
    WIDE,
    augmix,
    draw_randaugment,
    draw_trivial,
    transform,
)

torch.set_num_threads(1)

OPERATIONS_ALONE = {
    "flip": AugmentConfig(flip=0.5),
    "rotate": AugmentConfig(rotate_deg=20),
    "shift": AugmentConfig(shift_frac=0.2),
    "jitter": AugmentConfig(jitter=0.3),
    "crop": AugmentConfig(crop_scale=0.5),
    "erase": AugmentConfig(erase=0.5),
    "trivial": AugmentConfig(trivial=True),
    "fixed crop": AugmentConfig(crop_frac=0.75),
    "randaugment": AugmentConfig(randaugment_num_ops=2, randaugment_magnitude=15),
    "augmix": AugmentConfig(augmix_severity=5),
}
RANDOM = OPERATIONS_ALONE | {k: v for k, v in AUGMENT_PRESETS.items() if k != "none"}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def copies(num_images=64, channels=3):
    """The same smooth, unsymmetric picture num_images times."""
    y, x = torch.meshgrid(torch.linspace(0.1, 0.9, 16), torch.linspace(0, 0.6, 16), indexing="ij")
    image = torch.stack([(x + y) / 2, y, x])[:channels]
    return image.expand(num_images, -1, -1, -1).contiguous()


def test_none_changes_nothing():
    assert torch.equal(Augment(AUGMENT_PRESETS["none"])(copies(), generator()), copies())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("config", RANDOM.values(), ids=RANDOM)
def test_images_of_one_batch_differ_and_stay_in_range(config, channels):
    out = Augment(config)(copies(channels=channels), generator())
    assert out.shape == copies(channels=channels).shape
    assert out.min() >= 0
    assert out.max() <= 1
    kinds = {tuple(image.flatten().tolist()) for image in out}
    assert len(kinds) > (1 if config == AUGMENT_PRESETS["flip"] else 10)


@pytest.mark.parametrize("config", RANDOM.values(), ids=RANDOM)
def test_same_generator_seed_gives_the_same_images(config):
    augment = Augment(config)
    assert torch.equal(augment(copies(), generator(1)), augment(copies(), generator(1)))
    assert not torch.equal(augment(copies(), generator(1)), augment(copies(), generator(2)))


@pytest.mark.parametrize("config", RANDOM.values(), ids=RANDOM)
def test_the_given_images_are_not_written_to(config):
    images = copies()
    Augment(config)(images, generator())
    assert torch.equal(images, copies())


@pytest.mark.parametrize("extra", [{}, {"rotate_deg": 1e-9}], ids=["by copy", "by resampling"])
def test_flip_mirrors_its_share_of_the_images(extra):
    images = torch.rand(1, 3, 16, 16, generator=generator(5)).expand(200, -1, -1, -1)
    out = Augment(AugmentConfig(flip=0.25, **extra))(images, generator())
    mirrored = (out - images.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    same = (out - images).abs().amax((1, 2, 3)) < 1e-4
    assert bool((mirrored | same).all())
    assert 30 <= int(mirrored.sum()) <= 70


def test_resampling_by_the_identity_changes_nothing():
    images = torch.rand(2, 3, 16, 16)
    assert torch.allclose(resample(images, torch.eye(3).expand(2, 3, 3)), images, atol=1e-5)


def test_rotation_by_a_right_angle_is_rot90():
    images = torch.rand(1, 1, 8, 8)
    matrix = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    turned = resample(images, matrix)
    either = [torch.allclose(turned, images.rot90(k, (2, 3)), atol=1e-5) for k in (1, 3)]
    assert any(either)


def test_erasing_leaves_the_other_images_alone_and_fills_2_to_20_percent():
    images = torch.full((300, 1, 32, 32), 0.5)
    out = Augment(AugmentConfig(erase=0.5))(images, generator())
    share = (out != images).float().mean((1, 2, 3))
    erased = share[share > 0]
    assert 110 <= len(erased) <= 190
    assert erased.min() > 0.005
    assert erased.max() < 0.23


def test_jitter_keeps_geometry_and_crop_keeps_colours():
    flat = torch.full((8, 3, 16, 16), 0.5)
    jittered = Augment(AugmentConfig(jitter=0.3))(flat, generator())
    assert jittered.std((2, 3)).max() < 1e-6
    moved = Augment(AugmentConfig(crop_scale=0.5, rotate_deg=30, shift_frac=0.3))(flat, generator())
    assert torch.allclose(moved, flat, atol=1e-6)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("space", [WIDE, NARROW], ids=["wide", "narrow"])
def test_each_operation_changes_the_images_but_identity(name, space):
    images = copies(4) * 0.8 + 0.05
    operation = torch.full((4,), OPERATIONS.index(name))
    drawn = Drawn(operation, torch.tensor([-0.9, -0.4, 0.4, 0.9]), space)
    out = drawn.recolour(resample(images, drawn.matrix))
    assert torch.allclose(out, images, atol=1e-5) == (name == "identity")


def drawing(num_images=400, seed=0):
    """A draw as Augment gives it, from a generator of its own."""
    numbers = generator(seed)
    return lambda low, high: torch.rand(num_images, generator=numbers) * (high - low) + low


def test_randaugment_draws_its_number_of_operations_all_of_one_magnitude():
    layers = draw_randaugment(3, 12, drawing())
    assert len(layers) == 3
    for layer in layers:
        assert set(layer.operation.tolist()) == set(range(len(OPERATIONS)))
        assert layer.strength.abs().unique().tolist() == [pytest.approx(12 / 30)]
        assert 130 < int((layer.strength > 0).sum()) < 270
    assert not torch.equal(layers[0].operation, layers[1].operation)


def test_randaugment_of_no_magnitude_turns_shears_and_recolours_by_a_factor_of_nothing():
    (layer,) = draw_randaugment(1, 0, drawing(200))
    image = torch.rand(1, 3, 16, 16, generator=generator(3))
    out = transform(image.expand(200, -1, -1, -1), [layer], None)
    changed = (out - image).abs().amax((1, 2, 3)) > 2e-2
    # Posterize keeps 8 bits and autocontrast has no strength: it alone may change an image.
    assert set(layer.operation[changed].tolist()) <= {OPERATIONS.index("autocontrast")}


def test_geometry_of_several_operations_is_that_of_one_after_the_other():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 65), torch.linspace(-1, 1, 65), indexing="ij")
    images = (torch.exp(-8 * ((x - 0.2) ** 2 + (y + 0.1) ** 2)))[None, None]
    turn = Drawn(torch.tensor([OPERATIONS.index("rotate")]), torch.tensor([0.5]), NARROW)
    shift = Drawn(torch.tensor([OPERATIONS.index("shift_x")]), torch.tensor([0.3]), NARROW)
    at_once = transform(images, [turn, shift], None)
    in_turn = transform(transform(images, [turn], None), [shift], None)
    inside = (..., slice(16, 48), slice(16, 44))  # what is mirrored at the border differs
    assert (at_once - in_turn)[inside].abs().max() < 0.02
    assert (at_once - images)[inside].abs().max() > 0.2


def test_a_magnitude_that_grows_changes_the_images_more():
    def change(magnitude):
        config = AugmentConfig(randaugment_num_ops=2, randaugment_magnitude=magnitude)
        return float((Augment(config)(copies(), generator()) - copies()).abs().mean())

    assert change(3) < change(12) < change(30)


def test_augmix_mixes_the_image_itself_in_and_knows_no_operation_of_the_corruptions():
    assert NUM_CHAINS == 3
    names = {OPERATIONS[k] for k in AUGMIX_OPERATIONS}
    assert not names & {"brightness", "contrast", "saturation", "sharpness", "identity"}
    images = copies(400)
    out = augmix(images, 3, drawing())
    distance = (out - images).abs().mean((1, 2, 3))
    # The image's own share is even in 0..1: some are nearly untouched, none is another picture.
    assert distance.min() < 0.1 * distance.max()
    severe = augmix(images, 10, drawing())
    assert (severe - images).abs().mean() > 1.5 * distance.mean()


def test_a_fixed_crop_is_of_one_size_anywhere():
    ramp = torch.linspace(0, 1, 48).expand(1, 1, 48, 48)
    images = torch.cat([ramp, ramp.mT], 1).expand(300, -1, -1, -1)
    out = Augment(AugmentConfig(crop_frac=44 / 48))(images, generator())
    for along in (out[:, 0], out[:, 1].mT):  # places along x and along y
        width = along[:, 0, -1] - along[:, 0, 0]
        assert torch.allclose(width, torch.full_like(width, 43 / 47), atol=5e-3)
        start = along[:, 0, 0]
        assert start.min() < 0.01
        assert start.max() > 0.075


@pytest.mark.parametrize("crop_scale", [0.7, 0.8, 0.95])
def test_a_random_crop_keeps_the_area_that_it_says(crop_scale):
    ramp = torch.linspace(0, 1, 48).expand(1, 1, 48, 48)
    images = torch.cat([ramp, ramp.mT], 1).expand(1000, -1, -1, -1)
    out = Augment(AugmentConfig(crop_scale=crop_scale))(images, generator())
    width, height = out[:, 0, 0, -1] - out[:, 0, 0, 0], out[:, 1, -1, 0] - out[:, 1, 0, 0]
    assert (width * height).min() > crop_scale - 1e-3
    assert (width / height).min() < 1 < (width / height).max()


@pytest.mark.parametrize(("side", "shift_px"), [(24, 0.99 * 24), (48, 32), (224, 32)])
def test_trivial_shifts_by_32_px_at_most(side, shift_px):
    drawn = draw_trivial(side, drawing(4000))
    shifts = drawn.matrix[:, 0, 2].abs() * side / 2
    assert 0.98 * shift_px < shifts.max() <= shift_px


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0), (0, 1.0), (0.4, 1.0)])
def test_mixing_keeps_targets_in_step_with_the_pixels(mixup, cutmix):
    # Class k is an image of value k: the mean pixel must be the mean under the soft target.
    labels = torch.arange(4).repeat(4)
    images = labels.float().view(-1, 1, 1, 1).expand(-1, 1, 12, 12)
    rng = np.random.default_rng(3)
    for _ in range(8):
        mixed, targets = mix(images, labels, 4, mixup, cutmix, rng)
        assert torch.allclose(targets.sum(1), torch.ones(16))
        assert torch.allclose(targets @ torch.arange(4.0), mixed.mean((1, 2, 3)), atol=1e-4)
