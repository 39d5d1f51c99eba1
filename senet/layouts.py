"""Whose weights are these? The key layouts in which SE-ResNet and ResNet weights are found.

All are brought to one form, that of `senet.resnet`, and compared there:

=============  ====================  ==========================================================
layout         written by            where it differs from ours
=============  ====================  ==========================================================
own            this project          ``stem.conv``, ``stem.bn``, ``stage1`` … ``stage4``,
                                     ``shortcut.0``, ``shortcut.1``, ``se.fc1``, ``se.fc2``, ``fc``
torchvision    torchvision, timm     ``conv1``, ``bn1``, ``layer1`` … ``layer4``, ``downsample.0``,
               (resnet*)             ``downsample.1``
timm           timm (seresnet*, and  as torchvision; ``se.fc1``, ``se.fc2`` are 1×1 convolutions
               attn_layer eca, cbam) with bias, their width rounded to a multiple of 8; for ECA and
                                     CBAM see `senet.attention_layouts`
moskomule      moskomule/senet       as torchvision; ``se.fc.0`` and ``.2`` are FC layers, no bias
mmpretrain     mmpretrain, SEResNet  ``se_layer.conv1.conv`` and ``conv2.conv``, ``head.fc``
reference      PappaLaity/SENet-50,  as torchvision; ``se_block.excitation.0`` and ``.2`` are FC
               SEResNet (notebooks)  layers with bias; ``conv1`` is a 3×3, stride 1, without pool
=============  ====================  ==========================================================

Keys and shapes do not tell everything: a network that strides elsewhere or blurs while pooling can
have the same ones. Only weights of the networks above give the logits of their source. Cadene's
pretrained-models (``layer0``, ``se_module``) stride in a bottleneck's first convolution and so are
not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import product

from torch import Tensor

from senet import attention_layouts
from senet.layers import hidden_channels

State = dict[str, Tensor]

# What DistributedDataParallel, torch.compile and training frameworks put before every key.
WRAPPER_PREFIXES = (
    *("module.", "model.", "net.", "network.", "backbone.", "encoder.", "resnet."),
    *("student.", "ema.", "ema_model."),
)
# What compiling, sharding and recomputing put into the middle of keys, wherever they were applied.
INNER = ("_orig_mod.", "_fsdp_wrapped_module.", "_fpw_module.", "_checkpoint_wrapped_module.")
MAJORITY = 0.75  # of the keys; what a wrapper keeps for itself stands beside them

# torch's AveragedModel counts, timm's and Lightning's losses and metrics have tensors.
_BOOKKEEPING = {"n_averaged", "num_updates", "decay"}
_BOOKKEEPING_PREFIXES = ("criterion.", "loss.", "loss_fn.", "train_acc.", "val_acc.", "metrics.")

_RENAMES = (
    (re.compile(r"^head\.fc\."), "fc."),  # mmpretrain
    (re.compile(r"\.se_layer\.conv([12])\.conv\."), r".se.fc\1."),
    (re.compile(r"\.se\.fc\.0\."), ".se.fc1."),  # moskomule
    (re.compile(r"\.se\.fc\.2\."), ".se.fc2."),
    (re.compile(r"^conv1\."), "stem.conv."),
    (re.compile(r"^bn1\."), "stem.bn."),
    (re.compile(r"^layer([1-4])\."), r"stage\1."),
    (re.compile(r"\.downsample\."), ".shortcut."),
    (re.compile(r"\.se_block\.excitation\.0\."), ".se.fc1."),
    (re.compile(r"\.se_block\.excitation\.2\."), ".se.fc2."),
    *attention_layouts.RENAMES,
    (re.compile(r"^linear\."), "fc."),  # akamaster/pytorch_resnet_cifar10, else as torchvision
)
_IN_BLOCK = re.compile(r"stage[1-4]\.\d+\.[^.]+\.")
_BLOCK_LAYER = re.compile(r"conv[123]|bn[123]|shortcut|se|drop\w*|aa|act[123]")
_OUR_PLACES = re.compile(r"(stem|stage[1-4])\.")
_SE_WEIGHT = re.compile(r"\.se\.fc[12]\.weight$")


def detect(keys: Iterable[str]) -> str:
    """Return the layout that ``keys`` are in; ``unknown`` when they are in none."""
    keys = set(keys)
    if "stem.conv.weight" in keys:
        return "own"
    marks = (
        ("Cadene", ".se_module."),
        ("mmpretrain", ".se_layer."),
        ("moskomule", ".se.fc.0."),
    )
    for layout, mark in marks:
        if any(mark in key for key in keys):
            return layout
    if "conv1.weight" not in keys or not any(key.startswith("layer1.0.") for key in keys):
        return "unknown"
    if any(".se_block.excitation." in key for key in keys):
        return "reference"
    return "torchvision" if attention_layouts.kind_of(keys) == "none" else "timm"


def strip_wrappers(state: Mapping[str, Tensor]) -> State:
    """Return ``state`` without the prefixes that wrappers put before most of its keys.

    Keys without the prefix (an average's ``n_averaged``, a loss's ``criterion.weight``) stay as
    they are, and so are named by whoever finds no place for them; ``fc.`` may stand beside a
    ``backbone.``.
    """
    found = _unwrapped(state)
    while found:
        prefix = next((p for p in WRAPPER_PREFIXES if _is_of_most(p, found)), None)
        if prefix is None:
            break
        bare = {key.removeprefix(prefix): value for key, value in found.items()}
        if len(bare) < len(found):  # two keys would become one
            break
        found = bare
    return found


def _unwrapped(state: Mapping[str, Tensor]) -> State:
    """Return ``state`` without what wrappers of single layers put into its keys."""
    pattern = "|".join(rf"(?:(?<=\.)|^){re.escape(inner)}" for inner in INNER)
    bare = {re.sub(pattern, "", key): value for key, value in state.items()}
    return bare if len(bare) == len(state) else dict(state)


def _is_of_most(prefix: str, state: Mapping[str, Tensor]) -> bool:
    return sum(key.startswith(prefix) for key in state) >= MAJORITY * len(state)


def is_bookkeeping(key: str) -> bool:
    """Say whether a wrapper keeps the key for itself: no weight of the network is lost with it."""
    return key in _BOOKKEEPING or key.startswith(_BOOKKEEPING_PREFIXES)


def canonical(key: str) -> str:
    """Return the name that a key of any layout has in `senet.resnet`."""
    for pattern, replacement in _RENAMES:
        key = pattern.sub(replacement, key)
    return key


def canonical_value(key: str, value: Tensor) -> Tensor:
    """Return ``value`` in our shape: a 1×1 convolution over one position is an FC layer."""
    is_fc = _SE_WEIGHT.search(canonical(key)) or attention_layouts.FC_WEIGHT.search(canonical(key))
    if is_fc and value.ndim == 4 and value.shape[2:] == (1, 1):
        return value.flatten(1)
    return value


def hints(model: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> list[str]:
    """Return how the model would have to be built to fit the file, as far as the file tells.

    Both mappings have canonical keys. What is named is an option of `senet.build`, as the command
    line spells it.
    """
    found = (
        _depth_hint(model, file),
        _stem_hint(model, file),
        _classes_hint(model, file),
        attention_layouts.kind_hint(model, file) or _se_hint(model, file),
    )
    return [hint for hint in found if hint]


def _classes_hint(model: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> str | None:
    ours, theirs = model.get("fc.weight"), file.get("fc.weight")
    if ours is None or theirs is None or theirs.ndim != 2 or len(ours) == len(theirs):
        return None
    return f"the file has {len(theirs)} classes, the model {len(ours)}"


def _stem_hint(model: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> str | None:
    ours, theirs = model.get("stem.conv.weight"), file.get("stem.conv.weight")
    if ours is None or theirs is None or theirs.ndim != 4 or ours.shape[2:] == theirs.shape[2:]:
        return None
    stem = {3: "cifar", 7: "imagenet"}.get(theirs.shape[-1])
    return stem and f"the file has the {stem} stem: --stem {stem}"


def _se_hint(model: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> str | None:
    ours, theirs = _hidden_widths(model), _hidden_widths(file)
    if not any(_OUR_PLACES.match(key) for key in file) or (ours and _has_gates(file)):
        return "the file is in another key layout"
    if _has_strange_layers(file):
        return "the file is in another key layout"
    if bool(ours) != bool(theirs):
        return f"the file is of a model {'with' if theirs else 'without'} SE blocks"
    if not theirs:
        return None
    if any(channels == c and hidden != h for channels, hidden in ours for c, h in theirs):
        return _reduction_hint(theirs)
    biases = [any(".se.fc1.bias" in key for key in state) for state in (model, file)]
    if biases[0] == biases[1]:
        return None
    option, has = ("--se-bias", "have a") if biases[1] else ("--no-se-bias", "have no")
    return f"the file's SE blocks {has} bias: {option}"


def _has_gates(file: Mapping[str, Tensor]) -> bool:
    """Say whether blocks have something like SE under names that no known layout has."""
    gates = re.compile(r"(^|[._])(se|squeeze|excitation|attention|gate)\w*\.", re.IGNORECASE)
    strange = [key for key in file if ".se.fc" not in key and gates.search(key)]
    return bool(strange) and not _hidden_widths(file)


def _has_strange_layers(file: Mapping[str, Tensor]) -> bool:
    """Say whether blocks have layers that no layout has which is read here."""
    inner = (key.split(".")[2] for key in file if _IN_BLOCK.match(key))
    return any(not _BLOCK_LAYER.fullmatch(name) for name in inner)


def _hidden_widths(state: Mapping[str, Tensor]) -> set[tuple[int, int]]:
    """Return the (channels, hidden width) that SE blocks have."""
    weights = (value for key, value in state.items() if key.endswith(".se.fc1.weight"))
    return {(value.shape[1], value.shape[0]) for value in weights if value.ndim == 2}


def _reduction_hint(widths: set[tuple[int, int]]) -> str | None:
    for divisor, reduction in product((1, 8), (1, 2, 4, 8, 16, 32, 64)):
        wide_enough = all(channels >= reduction for channels, _ in widths)
        if wide_enough and all(hidden_channels(c, reduction, divisor) == h for c, h in widths):
            rounding = f" --se-divisor {divisor}" if divisor > 1 else ""
            return f"the file's SE blocks are of other widths: --reduction {reduction}{rounding}"
    return None


def _depth_hint(model: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> str | None:
    ours, theirs = _depths(model), _depths(file)
    if ours == theirs or 0 in theirs[:3]:
        return None
    theirs, ours = (tuple(filter(None, depths)) for depths in (theirs, ours))
    return f"the file has {theirs} blocks in its stages, the model {ours}"


def _depths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    blocks = {tuple(key.split(".")[:2]) for key in state if key.startswith("stage")}
    return tuple(sum(stage == f"stage{n}" for stage, *_ in blocks) for n in (1, 2, 3, 4))
