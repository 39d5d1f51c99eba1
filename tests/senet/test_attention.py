"""An attention is one value: equal when it means the same, and refused when it means nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from senet import Attention, ModelError
from senet.attention import KINDS


def test_defaults_are_written_out() -> None:
    """SE has the paper's r of 16, biases, a mean, a sigmoid and the place before the addition."""
    se = Attention("se")
    assert se == Attention("se", 16, True, 1, "avg", "sigmoid", None, "standard", None)
    assert hash(se) == hash(Attention("se", reduction=16))
    assert Attention("eca").reduction is None
    assert Attention("ge_theta").extent == 0


def test_only_an_attention_is_true() -> None:
    """Nothing is none, and none is false."""
    assert not Attention()
    assert Attention() == Attention("none")
    assert all(Attention(kind) for kind in KINDS if kind != "none")


def test_what_is_not_the_default_is_told() -> None:
    """Its text names the kind and what was changed, and nothing else."""
    assert str(Attention("eca")) == "eca"
    changed = Attention("se", reduction=8, position="pre", stages=(3, 2))
    assert str(changed) == "se (reduction=8, position=pre, stages=2+3)"


@pytest.mark.parametrize(
    "attention",
    [
        Attention(),
        Attention("simam"),
        Attention("se", reduction=4, bias=False, squeeze="none", excitation="tanh", stages=(2,)),
        Attention("ge_theta_plus", extent=8, position="identity"),
    ],
)
def test_it_survives_json(attention: Attention) -> None:
    """What is read is what was written, and defaults take no room in it."""
    text = json.dumps(attention.to_dict())
    assert Attention.from_dict(json.loads(text)) == attention
    assert json.dumps(Attention("se").to_dict()) == '{"kind": "se"}'


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"kind": "sse"},
            "unknown attention 'sse'; choose from: none, se, eca, cbam, ge_theta_minus, ge_theta, "
            "ge_theta_plus, simam",
        ),
        (
            {"kind": "eca", "reduction": 8},
            "reduction does not apply to attention eca, whose options are: position, stages; "
            "it applies to: se, cbam, ge_theta_plus",
        ),
        (
            {"kind": "cbam", "squeeze": "max"},
            "squeeze does not apply to attention cbam, whose options are: reduction, bias, "
            "divisor, position, stages; it applies to: se",
        ),
        (
            {"kind": "none", "position": "pre"},
            "position does not apply to attention none, whose options are: none; it applies to: "
            "se, eca, cbam, ge_theta_minus, ge_theta, ge_theta_plus, simam",
        ),
        ({"reduction": 0}, "reduction must be an integer of at least 1, not 0"),
        ({"divisor": 1.5}, "divisor must be an integer of at least 1, not 1.5"),
        ({"bias": 1}, "bias must be True or False, not 1"),
        ({"squeeze": "mean"}, "unknown squeeze 'mean'; choose from: avg, max, none"),
        ({"excitation": "elu"}, "unknown excitation 'elu'; choose from: sigmoid, tanh, relu"),
        (
            {"position": "inside"},
            "unknown position 'inside'; choose from: standard, pre, post, identity, conv3x3",
        ),
        ({"kind": "ge_theta", "extent": 3}, "unknown extent 3; choose from: 0, 2, 4, 8"),
        ({"kind": "ge_theta", "extent": 2.0}, "unknown extent 2.0; choose from: 0, 2, 4, 8"),
        ({"stages": ()}, "stages must be numbers of stages such as (2, 3), not ()"),
        ({"stages": "23"}, "stages must be numbers of stages such as (2, 3), not '23'"),
        ({"stages": (0,)}, "a stage must be an integer of at least 1, not 0"),
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, object], says: str) -> None:
    """One line names the option, and where it applies or what it can be."""
    with pytest.raises(ModelError) as caught:
        Attention(**{"kind": "se", **options})  # type: ignore[arg-type]
    assert str(caught.value) == says


@pytest.mark.parametrize("kind", [[], {}, 3, None, ["se"]])
def test_a_kind_that_is_no_text_is_unknown(kind: object) -> None:
    with pytest.raises(ModelError, match="unknown attention"):
        Attention.from_dict({"kind": kind})


def test_unknown_facts_are_refused() -> None:
    """A file of a later version, with an option more, is not half understood."""
    with pytest.raises(ModelError, match="unknown attention option 'gain'"):
        Attention.from_dict({"kind": "se", "gain": 2})


def test_names_and_facts_need_no_torch() -> None:
    """What reports ask for is there without importing torch, which takes seconds."""
    code = (
        "import sys, senet\n"
        "assert senet.attention_of('se_resnet56') == 'se'\n"
        "assert senet.facts('wrn28_10').width == 10\n"
        "assert senet.Attention('se', reduction=8).reduction == 8\n"
        "assert senet.Architecture('resnet18', 'cifar', 10).name == 'resnet18'\n"
        "import senet.architecture\n"
        "senet.architecture.resolve('eca_resnet50')\n"
        "assert issubclass(senet.ModelError, ValueError)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    """Each name that the package promises can be imported, and no other."""
    import senet

    for name in senet.__all__:
        assert getattr(senet, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'squash'"):
        _ = senet.squash  # type: ignore[attr-defined]
