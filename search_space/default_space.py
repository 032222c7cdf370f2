"""Every dimension of the search space with its range, for studies to narrow, widen, fix or drop.

Paths are those of `Candidate`. A part in brackets makes a dimension conditional: the dimension
`architecture.block[inception].wide_kernel_px` exists only where `architecture.block` is `inception`.
"""

from collections.abc import Mapping

from search_space.dimensions import Choice, Dimension, Integer, Real

Space = Mapping[str, Dimension]

BRANCHES = "architecture.encoder[grown].branches"
CLASS_WEIGHTS = "plan.loss_details.class_weights"

DEFAULT_SPACE: Space = {
    # All bands and indices of the study; lists of names to choose from may be set.
    "architecture.bands": Choice(((),)),
    "architecture.encoder": Choice(
        ("grown", "vgg16", "resnet34", "resnet50", "se_resnext50", "efficientnet_b0"),
        (0.8, 0.04, 0.04, 0.04, 0.04, 0.04),
    ),
    "architecture.encoder[grown].first_kernel_px": Choice((0, 5, 7)),
    "architecture.encoder[grown].residual_units": Integer(0, 4),
    "architecture.encoder[grown].pooling": Choice(("max", "average", "strided", "inception")),
    BRANCHES: Choice((False, True)),
    "architecture.encoder[vgg16].weights": Choice(("none",)),
    "architecture.encoder[resnet34].weights": Choice(("none",)),
    "architecture.encoder[resnet50].weights": Choice(("none",)),
    "architecture.encoder[se_resnext50].weights": Choice(("none",)),
    "architecture.encoder[efficientnet_b0].weights": Choice(("none",)),
    "architecture.depth": Integer(2, 6),
    "architecture.base_filters": Choice((8, 12, 16, 24, 32, 64)),
    "architecture.growth": Choice((1.0, 1.5, 1.75, 2.0)),
    "architecture.max_filters": Choice((128, 256, 512, 1024)),
    "architecture.units_per_stage": Integer(1, 3),
    "architecture.block": Choice(("plain", "residual", "bottleneck", "inception", "asymmetric", "dense", "separable")),
    "architecture.block[plain].kernel_px": Choice((2, 3, 4, 5)),
    "architecture.block[residual].kernel_px": Choice((3, 5)),
    "architecture.block[bottleneck].kernel_px": Choice((3, 5)),
    "architecture.block[bottleneck].narrowing": Choice((2, 4)),
    "architecture.block[inception].wide_kernel_px": Choice((5, 7)),
    "architecture.block[asymmetric].kernel_px": Choice((3, 5, 7)),
    "architecture.block[dense].kernel_px": Choice((3, 5)),
    "architecture.block[dense].layers": Integer(2, 4),
    "architecture.block[separable].kernel_px": Choice((3, 5, 7)),
    "architecture.squeeze_excitation": Choice((False, True)),
    "architecture.bottom": Choice(("none", "aspp", "pyramid", "attention")),
    "architecture.bottom[aspp].rate": Integer(1, 6),
    "architecture.bottom[attention].heads": Choice((1, 2, 4)),
    "architecture.up": Choice(("transposed", "nearest", "bilinear", "subpixel")),
    "architecture.up[transposed].kernel_px": Choice((2, 4)),
    "architecture.up[nearest].kernel_px": Choice((0, 1, 3)),
    "architecture.up[bilinear].kernel_px": Choice((0, 1, 3)),
    "architecture.up[subpixel].kernel_px": Choice((1, 3)),
    "architecture.skip": Choice(("concatenate", "add", "residual", "gate", "none"), (0.3, 0.2, 0.2, 0.2, 0.1)),
    "architecture.activation": Choice(("relu", "leaky_relu", "elu", "selu", "gelu", "silu")),
    "architecture.normalisation": Choice(("batch", "group", "layer", "none")),
    "architecture.kernel_initialisation": Choice(
        ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "orthogonal")
    ),
    "architecture.dropout": Choice(("none", "spatial", "element")),
    "architecture.dropout[spatial].rate": Real(0.02, 0.35),
    "architecture.dropout[element].rate": Real(0.02, 0.5),
    "architecture.regularisation": Choice(("none", "l2")),
    "architecture.regularisation[l2].weight": Real(7e-6, 7e-3, log=True),
    "architecture.head": Choice(("sigmoid", "hard_sigmoid"), (0.8, 0.2)),
    "architecture.deep_supervision": Choice((False, True), (0.7, 0.3)),
    "architecture.energy": Choice((False, True), (0.8, 0.2)),
    "architecture.margin_px": Choice((0, 8, 16), (0.6, 0.2, 0.2)),
    "plan.loss": Choice(
        (
            {"bce": 1.0},
            {"focal": 1.0},
            {"dice": 1.0},
            {"bce": 1.0, "dice": 1.0},
            {"bce": 1.0, "jaccard": 1.0},
            {"bce": 10.0, "jaccard": 2.5},
            {"bce": 1.0, "log_jaccard": 1.0},
            {"bce": 1.0, "lovasz": 1.0},
            {"dice": 0.25, "focal": 0.75},
            {"tversky": 1.0},
            {"bce": 1.0, "tversky": 1.0},
        )
    ),
    "plan.loss_details.positive_weight": Real(0.5, 8.0, log=True),
    "plan.loss_details.focal_gamma": Real(1.0, 4.0),
    "plan.loss_details.miss_share": Real(0.3, 0.8),
    "plan.loss_details.energy": Real(0.1, 10.0, log=True),
    # How much a class matters is the study's to say: mappings from class to weight may be set.
    CLASS_WEIGHTS: Choice(({},)),
    "plan.optimizer": Choice(("adam", "adamw", "nadam", "rmsprop", "sgd")),
    "plan.optimizer[adamw].weight_decay": Real(1e-3, 0.3, log=True),
    "plan.optimizer[sgd].momentum": Choice((0.9, 0.95, 0.99)),
    "plan.optimizer[sgd].nesterov": Choice((False, True)),
    # One range for all: gradient descent finds its rates in the upper half, as its momentum makes them ten to a hundred
    # times larger.
    "plan.learning_rate": Real(1e-4, 1e-2, log=True),
    "plan.clip_norm": Choice((0.0, 0.1, 1.0, 10.0), (0.1, 0.2, 0.5, 0.2)),
    "plan.warm_up": Choice((0.0, 0.05, 0.1), (0.6, 0.2, 0.2)),
    "plan.schedule": Choice(
        ("constant", "steps", "plateau", "cosine", "polynomial", "one_cycle", "cyclic"),
        (0.22, 0.13, 0.13, 0.13, 0.13, 0.13, 0.13),
    ),
    "plan.schedule[steps].at": Choice(((0.5,), (0.5, 0.75), (0.7, 0.9))),
    "plan.schedule[steps].factor": Real(0.1, 0.5, log=True),
    "plan.schedule[plateau].patience": Integer(2, 5),
    "plan.schedule[plateau].factor": Real(0.1, 0.7, log=True),
    "plan.schedule[cosine].floor": Real(0.0, 0.1),
    "plan.schedule[polynomial].power": Real(0.5, 2.0),
    "plan.schedule[one_cycle].peak_at": Real(0.1, 0.5),
    "plan.schedule[one_cycle].start": Real(0.01, 0.3, log=True),
    "plan.schedule[one_cycle].floor": Real(0.0, 0.05),
    "plan.schedule[cyclic].start": Real(0.2, 0.8),
    "plan.schedule[cyclic].cycles": Integer(2, 5),
    "plan.schedule[cyclic].floor": Real(0.0, 0.1),
    "plan.averaging": Choice(("none", "ema", "snapshots"), (0.5, 0.3, 0.2)),
    "plan.averaging[ema].momentum": Choice((0.9, 0.99, 0.999)),
    "plan.averaging[snapshots].num": Integer(2, 4),
    "plan.averaging[snapshots].of": Choice(("weights", "predictions")),
    # In a search pruning ends what leads nowhere; patience is for long trainings.
    "plan.patience": Choice((0,)),
    "plan.patch_px": Choice((64, 96, 128, 160)),
    "plan.batch_size": Choice((4, 8, 16)),
    "plan.sampling": Choice(("uniform", "balanced", "loss")),
    "plan.sampling[balanced].share": Real(0.25, 1.0),
    "plan.sampling[loss].share": Real(0.25, 1.0),
    "plan.augmentation.turns": Choice(("none", "d4", "d8", "any")),
    "plan.augmentation.zoom": Real(0.0, 0.4),
    "plan.augmentation.shear": Real(0.0, 0.2),
    "plan.augmentation.elastic": Real(0.0, 0.2),
    "plan.augmentation.jitter": Real(0.0, 0.6),
    "plan.augmentation.brightness": Real(0.0, 0.3),
    "plan.augmentation.contrast": Real(0.0, 0.3),
    "plan.augmentation.noise": Real(0.0, 0.2),
    "plan.augmentation.band_dropout": Real(0.0, 0.15),
    "plan.augmentation.soft_labels": Choice((False, True)),
    # Scenes that were stretched one by one want "scene", others mostly "dataset"; who knows which should fix it.
    "plan.scaling.scope": Choice(("dataset", "scene")),
    "plan.scaling.kind": Choice(("clipped", "standard", "percentile", "bytes")),
    # Other percentiles matter less than the kind: they are there to be set, such as 2 and 98.
    "plan.scaling.low_percentile": Real(1.0, 1.0),
    "plan.scaling.high_percentile": Real(99.0, 99.0),
}
