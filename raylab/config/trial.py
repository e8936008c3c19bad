"""One trial's config: everything that decides what is learned, as one frozen value.

A field is named as torch or timm name it. How a trial runs (workers, GPUs) and where its results
land are not here: they do not belong to the trial's identity.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from raylab.config.choices import did_you_mean

Fraction = Annotated[StrictFloat, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Crop = Literal["none", "face"]
Filter = Literal["bicubic", "bilinear"]
Probability = Annotated[StrictFloat, Field(ge=0.0, le=1.0, allow_inf_nan=False)]

DEFAULT_TEST_FRACTION = 0.1
DEFAULT_TRAIN_FRACTION = 0.8
MAX_FOLDS = 100


class Value(BaseModel):
    """Base of every config: frozen, no unknown fields, no silent conversion of text to numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


def read_pattern(given: str) -> str:
    """The regular expression itself, if it says without doubt which text is the group."""
    try:
        num_groups = re.compile(given).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{given!r} is no regular expression: {error}") from error
    if num_groups > 1:
        raise ValueError(
            f"{given!r} has {num_groups} capture groups, and one names the person; "
            "write the others as (?:...)"
        )
    return given


GroupPattern = Annotated[StrictStr, AfterValidator(read_pattern)]
NumFolds = Annotated[
    StrictInt, Field(ge=0, le=MAX_FOLDS), AfterValidator(lambda given: 0 if given == 1 else given)
]


class SplitConfig(Value):
    """Which images train, validate, and stay locked for the final test."""

    train: Fraction = DEFAULT_TRAIN_FRACTION
    """Fraction of the images to train on. Nested: 0.7 is a subset of 0.75 at the same `test`."""
    val: Fraction = 1 - DEFAULT_TRAIN_FRACTION - DEFAULT_TEST_FRACTION
    """Fraction to validate on; left out, it is what `train` and `test` leave."""
    test: Fraction = DEFAULT_TEST_FRACTION
    """Fraction locked away; left out, it is 0.1, or what `train` and `val` leave if both stand."""
    strategy: Literal["auto", "stratified", "random", "group", "given"] = "auto"
    """`stratified`: the fractions hold per class; `random`: over the whole set; `group`: the same,
    and refused where there are no groups; `given`: as the source says, train and val being cut
    anew with `folds`; `auto`: `given` where the source names splits, else `stratified`. All but
    `given` keep the images of a group (person) on one side."""
    seed: Annotated[StrictInt, Field(ge=0, lt=2**31)] = 0
    """Chooses another split of the same fractions."""
    group_pattern: GroupPattern = ""
    """Regular expression searched in an image's path, relative to the source: its capture group,
    or without one all it matches, names the image's group. An image without a match stands for
    itself. It overrules the source's group column; '' = that column, if there is one."""
    folds: NumFolds = 0
    """Cross-validation: what is not test is cut into so many parts, and each validates in one
    trial; 0 or 1 = off. `train` and `val` then follow from `folds` and `test`."""
    fold: Annotated[StrictInt, Field(ge=0, lt=MAX_FOLDS)] = 0
    """Which part validates. Every config runs with all of them; give it to run one alone."""
    conflicts: Literal["drop", "keep"] = "drop"
    """Identical images under different labels: left out of every side, or kept on one."""

    @model_validator(mode="before")
    @classmethod
    def _fill_fractions(cls, given: Any) -> Any:
        """The fractions that were left out follow from those that were given, or from `folds`."""
        if not isinstance(given, Mapping):
            return given
        folds = given.get("folds")
        if isinstance(folds, int) and folds > 1:
            return _with_fold_fractions(given, folds)
        parts: dict[str, Any] = {k: given[k] for k in ("train", "val", "test") if k in given}
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in parts.values()):
            return given  # the field types say what is wrong
        if "test" not in parts:
            both = "train" in parts and "val" in parts
            parts["test"] = 1 - parts["train"] - parts["val"] if both else DEFAULT_TEST_FRACTION
        if "train" not in parts:
            rest = 1 - parts["val"] - parts["test"] if "val" in parts else DEFAULT_TRAIN_FRACTION
            parts["train"] = rest
        if "val" not in parts:
            parts["val"] = 1 - parts["train"] - parts["test"]
            if "train" not in given and parts["test"] < 1 and round(parts["val"], 9) <= 0:
                whole = f"test {parts['test']:g} + train {parts['train']:g}, the default"
                raise ValueError(f"{whole}, leave nothing for val; give train or val too")
        # 1 - 0.7 - 0.1 is 0.20000000000000007: rounding keeps identities free of float dust.
        return {**given, **{k: round(v, 9) + 0.0 for k, v in parts.items()}}

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Self:
        if self.fold >= max(self.folds, 1):
            least = f"folds {self.folds}" if self.folds else "1, since folds is off"
            raise ValueError(f"fold {self.fold} must be < {least} (folds count from 0)")
        return self

    @model_validator(mode="after")
    def _fractions_add_up(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"train {self.train:g} + val {self.val:g} + test {self.test:g} = {total:g}; "
                "the fractions must add up to 1 (leave one out and it is filled in)"
            )
        if self.train == 0 or self.val == 0:
            raise ValueError(
                f"train {self.train:g}, val {self.val:g}: both must be > 0 "
                f"(test takes {self.test:g})"
            )
        return self


def _with_fold_fractions(given: Mapping[str, Any], folds: int) -> Mapping[str, Any]:
    """The split with the fractions that its folds make; ValueError if it says others."""
    test = given.get("test", DEFAULT_TEST_FRACTION)
    if not isinstance(test, int | float) or isinstance(test, bool) or not 0 <= test < 1:
        return given  # the field types, or what the fractions add up to, say what is wrong
    val = round((1 - test) / folds, 9)
    implied: dict[str, Any] = {"test": test, "val": val, "train": round(1 - test - val, 9)}
    for name in ("train", "val"):
        said = given.get(name, implied[name])
        if not isinstance(said, int | float):
            implied[name] = said
        elif abs(said - implied[name]) > 1e-6:
            raise ValueError(
                f"folds {folds} and test {test:g} make train {implied['train']:g} and val "
                f"{val:g}, which {name} {said:g} contradicts; leave train and val out"
            )
    return {**given, **implied}


def read_preset(given: Any) -> Any:
    """`light`, or `{preset: light, rotate_deg: 10}`, as the mapping of operations it stands for."""
    if isinstance(given, str):
        if given not in AUGMENT_PRESETS:
            hint = did_you_mean(given, AUGMENT_PRESETS)
            allowed = ", ".join(AUGMENT_PRESETS)
            raise ValueError(f"{given!r} is not one of {allowed}, or a mapping{hint}")
        return AUGMENT_PRESETS[given].model_dump()
    if isinstance(given, Mapping) and isinstance(given.get("preset"), str):
        rest = {key: value for key, value in given.items() if key != "preset"}
        return {**read_preset(given["preset"]), **rest}
    return given


class AugmentConfig(Value):
    """Random operations on training images, each drawn per image; all off by default."""

    flip: Probability = 0.0
    """Probability of a left-right flip."""
    rotate_deg: Annotated[StrictFloat, Field(ge=0, le=180)] = 0.0
    """Rotation by an angle drawn from [-rotate_deg, rotate_deg]."""
    shift_frac: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.0
    """Shift per axis by a fraction of the side drawn from [-shift_frac, shift_frac]."""
    jitter: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.0
    """Brightness, contrast and saturation factors drawn from [1 - jitter, 1 + jitter]."""
    crop_scale: Annotated[StrictFloat, Field(gt=0, le=1)] = 1.0
    """Random resized crop that keeps an area fraction from [crop_scale, 1]; its sides differ by a
    third at most, and by no more than that fraction allows."""
    crop_frac: Annotated[StrictFloat, Field(gt=0, le=1)] = 1.0
    """Random crop of always this fraction of the side, brought back to size: 44 of 48 px, with
    which FER2013's recipes from scratch train, is 0.917. Padding and cropping is `shift_frac`."""
    erase: Probability = 0.0
    """Probability that a rectangle of 2 to 20 % of the area is filled with noise
    (random erasing, Zhong et al. 2020)."""
    trivial: StrictBool = False
    """TrivialAugment (Müller and Hutter 2021): one random operation of random strength; shifts are
    of 32 px at most, whatever the size."""
    randaugment_num_ops: Annotated[StrictInt, Field(ge=0, le=10)] = 0
    """RandAugment (Cubuk et al. 2020): so many random operations in a row; 0 = off, 2 is usual."""
    randaugment_magnitude: Annotated[StrictFloat, Field(ge=0, le=30)] = 9.0
    """Of RandAugment: how strong all of them are, 0 to 30."""
    augmix_severity: Annotated[StrictFloat, Field(ge=0, le=10)] = 0.0
    """AugMix (Hendrycks et al. 2020): the image mixed with three chains of random operations up to
    this strength; 0 = off, the paper's is 3. Its consistency loss (JSD) is not there."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, given: Any) -> Any:
        """A preset's name stands for its operations; a mapping may start from one."""
        return read_preset(given)

    @property
    def name(self) -> str:
        """The preset's name, or `flip=0.5 rotate_deg=10`: what differs from doing nothing."""
        for name, preset in AUGMENT_PRESETS.items():
            if preset == self:
                return name
        return " ".join(f"{k}={v:g}" for k, v in self.model_dump(exclude_defaults=True).items())


AUGMENT_PRESETS: dict[str, AugmentConfig] = {
    "none": AugmentConfig(),
    "flip": AugmentConfig(flip=0.5),
    "light": AugmentConfig(flip=0.5, rotate_deg=5, jitter=0.1),
    "erase": AugmentConfig(flip=0.5, rotate_deg=5, jitter=0.1, erase=0.25),
    "strong": AugmentConfig(flip=0.5, rotate_deg=15, jitter=0.3, crop_scale=0.7, erase=0.25),
    "trivial": AugmentConfig(flip=0.5, trivial=True),
    "randaugment": AugmentConfig(flip=0.5, randaugment_num_ops=2),
    "augmix": AugmentConfig(flip=0.5, augmix_severity=3),
    "crop44": AugmentConfig(flip=0.5, crop_frac=0.917),
}


class TrialConfig(Value):
    """Everything that decides what one trial learns."""

    model: str = "resnet18"
    """Any timm classifier, or `cnn`, the small plain baseline."""
    pretrained: StrictBool | StrictStr = False
    """False, true (timm's weights), a weights file (safetensors or torch weights-only),
    `package:NAME`, the file inside an installed package (such as raylab[weights] installs), or
    `trial:<trial_id>`, the kept weights (of the best epoch) of that trial of the same results. A
    classifier for other classes begins at zero. The optimiser's state is in none of them: a trial
    begins its own schedule, a warm restart (Loshchilov and Hutter 2017)."""
    pretrained_digest: Annotated[StrictStr, Field(pattern="^([0-9a-f]{16})?$")] = ""
    """Start of the SHA-256 of that file's content. Left out, it is filled in when a sweep is
    planned, so that another content is another trial. A trial's id says it already."""
    drop_rate: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.0
    """Dropout before the classifier (Srivastava et al. 2014)."""
    drop_path_rate: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.0
    """Stochastic depth (Huang et al. 2016), for models that have it."""
    train_layers: Literal["all", "head"] | tuple[StrictStr, ...] = "all"
    """Which parameters learn: all, the classifier only, or those with these name prefixes."""
    freeze_bn: StrictBool = False
    """BatchNorm keeps its statistics, scale and shift: for small batches on pretrained weights
    (Ren et al. 2015)."""
    unfreeze_epochs: Annotated[StrictInt, Field(ge=0, le=10000)] = 0
    """Gradual unfreezing (Howard and Ruder 2018): the classifier learns alone at first, and every
    so many epochs one more stage, from the last to the first; 0 = all learn from the start."""
    image_size: Annotated[StrictInt, Field(ge=8, le=1024)] = 64
    """Side of the square input in px."""
    channels: Literal[1, 3] = 3
    """1 = grey, 3 = RGB."""
    interpolation: Literal["auto", "bicubic", "bilinear"] = "auto"
    """The filter, antialiased, that brings images to size. `auto` = bicubic; where `pretrained`
    weights saw another, as timm or the kept model tells, a planned trial says that one. A grid that
    names `trial:<trial_id>` has to say it itself."""
    crop: Crop = "none"
    """`face`: the largest face is cut out, with a margin of a tenth of its longer side, its eyes
    levelled; an image in which none is found stays whole, as all do with `none`. A manifest's
    columns box_x, box_y, box_w, box_h (left, top, width, height in px of the upright image) are
    taken in place of the detector, MTCNN (Zhang et al. 2016), which raylab[faces] installs."""
    split: SplitConfig = SplitConfig()
    augment: AugmentConfig = AugmentConfig()
    """A preset (none, flip, light, erase, strong, trivial, randaugment, augmix, crop44), or a
    mapping of operations, which may start from one: `{preset: light, rotate_deg: 10}`."""
    mixup: Annotated[StrictFloat, Field(ge=0, le=10)] = 0.0
    """Alpha of mixup's Beta distribution (Zhang et al. 2018); 0 = off."""
    cutmix: Annotated[StrictFloat, Field(ge=0, le=10)] = 0.0
    """Alpha of cutmix's Beta distribution (Yun et al. 2019); 0 = off. With mixup, each batch draws
    one of both."""
    label_smoothing: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.0
    """The share of every target that is spread over all classes (Szegedy et al. 2016)."""
    soft_labels: StrictBool = False
    """Training images teach the shares of their votes, where a manifest has a column
    `votes_<class>` per class (Barsoum et al. 2016), in place of the one label; validation and every
    metric stay with the label."""
    drop_suspects: StrictStr = ""
    """The suspects.parquet that `raylab diagnose` wrote, or any Parquet file with image_id: these
    images validate, but do not train. Where diagnose cannot tell whether labels are wrong, many of
    them are hard images with a right label. '' = all train."""
    drop_suspects_digest: Annotated[StrictStr, Field(pattern="^([0-9a-f]{16})?$")] = ""
    """As pretrained_digest, of that file."""
    teacher: StrictStr = ""
    """The teacher.parquet that `raylab distill` wrote, or any Parquet file with image_id and a
    column `p_<class>` per class: these images teach a mean of their label and those
    probabilities (Hinton et al. 2015). '' = no teacher."""
    teacher_digest: Annotated[StrictStr, Field(pattern="^([0-9a-f]{16})?$")] = ""
    """As pretrained_digest, of that file."""
    teacher_weight: Annotated[StrictFloat, Field(gt=0, le=1)] = 0.5
    """Of the teacher's probabilities in that mean."""
    sampler: Literal["shuffle", "proportional", "balanced"] = "shuffle"
    """`proportional`: every batch carries the class proportions; `balanced`: classes equally
    often."""
    class_weights: Literal["none", "balanced", "effective"] = "none"
    """`balanced` weighs the loss by num_train / (num_classes * count of the class); `effective` by
    1 / the effective number of images of the class (Cui et al. 2019), a milder weight."""
    effective_beta: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.999
    """Of class_weights `effective`: 0 weighs all alike, towards 1 as `balanced` does."""
    loss: Literal["cross_entropy", "focal", "gce"] = "cross_entropy"
    """`focal` (Lin et al. 2017) learns less from what is already right; `gce`, the generalised
    cross-entropy (Zhang and Sabuncu 2018), less from labels that look wrong."""
    focal_gamma: Annotated[StrictFloat, Field(ge=0, le=10)] = 2.0
    """Of loss `focal`: 0 is the cross-entropy."""
    gce_q: Annotated[StrictFloat, Field(gt=0, le=1)] = 0.7
    """Of loss `gce`: towards 0 the cross-entropy, 1 the mean absolute error."""
    batch_size: Annotated[StrictInt, Field(ge=1, le=65536)] = 128
    """Global, over all workers."""
    epochs: Annotated[StrictInt, Field(ge=1, le=10000)] = 20
    optimizer: Literal["sgd", "adam", "adamw", "nadam", "radam", "rmsprop"] = "adamw"
    lr: Annotated[StrictFloat, Field(gt=0, le=100)] = 1e-3
    """Peak learning rate."""
    layer_decay: Annotated[StrictFloat, Field(gt=0, le=1)] = 1.0
    """Layer-wise lr decay (Clark et al. 2020): each layer learns at the lr of the one after it
    times this; 1 = off. Layers as timm groups them."""
    head_lr_scale: Annotated[StrictFloat, Field(gt=0, le=1000)] = 1.0
    """The classifier learns at lr times this: a new head on pretrained weights needs more."""
    sam_rho: Annotated[StrictFloat, Field(ge=0, le=10)] = 0.0
    """Sharpness-aware minimisation (Foret et al. 2021): radius of the neighbourhood whose worst
    point gives the gradient; every step costs two. 0 = off, 0.05 is the paper's."""
    weight_decay: Annotated[StrictFloat, Field(ge=0, le=10)] = 1e-2
    momentum: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.9
    """SGD's and RMSprop's momentum (SGD's is Nesterov's); beta1 of the Adams."""
    lr_schedule: Literal["constant", "cosine", "step", "plateau", "onecycle"] = "cosine"
    """`step`: x0.1 at 1/2 and 3/4 of the epochs; `plateau`: x0.5 after 3 epochs without a better
    val_loss; `cosine`: to 0 at the end; `onecycle` (Smith and Topin 2018): as a cosine from lr/25
    up to lr over 0.3 of the epochs, then down to lr/250000."""
    warmup_epochs: Annotated[StrictFloat, Field(ge=0, le=1000)] = 0.0
    """Linear warm-up from lr/100, in epochs (fractions allowed); how long `onecycle` rises."""
    patience: Annotated[StrictInt, Field(ge=0, le=10000)] = 0
    """Early stopping: the trial is complete after so many epochs without a better value of the
    sweep's metric; 0 = it runs all `epochs`."""
    ema_decay: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.0
    """Validate and keep an exponential moving average of the weights (Polyak and Juditsky 1992);
    0 = off."""
    swa_frac: Annotated[StrictFloat, Field(ge=0, lt=1)] = 0.0
    """Stochastic weight averaging (Izmailov et al. 2018) over this last fraction of the epochs: the
    lr stays where its schedule was, and the mean of the weights at the ends of these epochs, with
    BatchNorm statistics of its own, is validated and kept; 0 = off, the paper's is 0.25."""
    tta: Literal["none", "flip", "fivecrop", "tencrop"] = "none"
    """Test-time augmentation during validation: probabilities averaged over the mirror image, or
    over the corners and the centre, mirrored too with `tencrop` (Krizhevsky et al. 2012)."""
    amp: Literal["auto", "none", "bf16", "fp16"] = "auto"
    """Autocast. auto = bf16 (or a GPU's fp16) where a probe measures it faster, else none."""
    compile: StrictBool = False
    """torch.compile of the training steps: half a minute and more at the start of a trial, for
    quicker steps on a GPU; `raylab bench --gpu` says by how much there. Needs a C++ compiler."""
    seed: Annotated[StrictInt, Field(ge=0, lt=2**31)] = 0
    """Seeds initialisation, batch order, augmentation and dropout."""

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} must be < epochs {self.epochs}")
        if self.train_layers == ():
            raise ValueError("train_layers is an empty list; give all, head, or name prefixes")
        if self.ema_decay > 0 and self.swa_frac > 0:
            raise ValueError(
                f"ema_decay {self.ema_decay:g} and swa_frac {self.swa_frac:g}: weights are "
                "averaged in one way; set one of them to 0"
            )
        return self

    @property
    def filter(self) -> Filter:
        """The filter of `interpolation`."""
        return "bicubic" if self.interpolation == "auto" else self.interpolation

    @property
    def num_swa_epochs(self) -> int:
        """The last epochs whose weights are averaged."""
        return max(1, round(self.swa_frac * self.epochs)) if self.swa_frac > 0 else 0

    def flat(self) -> dict[str, str | int | float | bool]:
        """Every field under its own dotted name as a scalar: a leaderboard row's config columns."""
        row: dict[str, str | int | float | bool] = {}
        for key, value in self:
            if isinstance(value, AugmentConfig):
                row[key] = value.name
            elif isinstance(value, SplitConfig):
                row.update({f"{key}.{name}": part for name, part in value})
            elif isinstance(value, tuple):
                row[key] = "[" + ", ".join(value) + "]"
            elif key == "pretrained":
                row[key] = str(value).lower() if isinstance(value, bool) else value
            else:
                row[key] = value
        return row
