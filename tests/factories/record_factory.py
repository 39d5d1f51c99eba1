"""Make records and run folders for tests, without training or timing anything."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.record.cost import CostFacts
from bench.record.environment import Environment
from bench.record.profile import NoiseFacts, ProfileRecord, TimingFacts
from bench.record.read_write import to_json
from bench.record.run import Accuracy, DatasetFacts, EpochFacts, FileFacts, RunRecord
from bench.spec.profile import TimingSpec
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec
from senet.catalogue import facts, is_known

CLASSES = ("circle", "square", "ring", "cross", "star", "moon", "bar", "wave", "dots", "heart")
MACS = {
    ("resnet18", "imagenet"): 37_000_000,
    ("resnet18", "cifar"): 555_000_000,
    ("se_resnet18", "imagenet"): 37_100_000,
    ("se_resnet18", "cifar"): 555_100_000,
    ("resnet50", "imagenet"): 83_431_424,
    ("se_resnet50", "imagenet"): 85_946_368,
    ("resnet101", "imagenet"): 159_191_040,
    ("resnet50", "cifar"): 1_297_829_888,
    ("se_resnet50", "cifar"): 1_300_344_832,
    ("resnet101", "cifar"): 2_509_983_744,
}


def model(name: str = "resnet50", stem: str = "cifar", **changes: Any) -> ModelSpec:
    """Return a model's identity; SE models have the usual reduction, others what is usual."""
    kind = facts(name).attention if is_known(name) else "none"
    own = {} if kind in ("none", "se") else {"attention": kind}
    se = {"reduction": 16, "se_bias": True} if name.startswith("se_") else {}
    return ModelSpec(name=name, stem=stem, **(own | se | changes))


def environment(**changes: Any) -> Environment:
    """Return an environment; ``changes`` replace its fields."""
    facts: dict[str, Any] = {
        "host": "lab",
        "os": "Linux 6.1",
        "python": "3.11.9",
        "packages": {"torch": "2.14.1", "torchvision": "0.29.1", "numpy": "2.4.6"},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "device": "cpu",
        "device_name": "CPU",
        "driver": None,
        "cpu_model": "Example CPU @ 2.0GHz",
        "cpu_isa": "AVX512",
        "num_cores": 2,
        "num_threads": 2,
        "memory_bytes": 8 * 2**30,
        "load_1min": 0.1,
        "flags": {},
        "env": {},
        "started_at": "2026-01-01T00:00:00Z",
    }
    return Environment.model_validate(facts | changes)


def dataset(label: str = "Shapes", digest: str = "a" * 64, num_test: int = 1000) -> DatasetFacts:
    """Return the facts of a data set of ten classes."""
    return DatasetFacts(
        name="shapes",
        label=label,
        digest=digest,
        num_train=5000,
        num_test=num_test,
        classes=CLASSES,
        image_size=32,
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.25, 0.25, 0.25),
    )


def predictions(
    correct: Sequence[bool] | np.ndarray, seed: int = 0, num_classes: int = 10
) -> dict[str, np.ndarray]:
    """Return stored predictions whose first guess is right where ``correct`` says so.

    Labels depend on the number of images alone, as those of one test set do.
    """
    hits = np.asarray(correct, dtype=bool)
    n, draw = len(hits), np.random.default_rng(seed)
    labels = (np.arange(n) % num_classes).astype(np.int16)
    wrong = (labels + draw.integers(1, num_classes, n)) % num_classes
    first = np.where(hits, labels, wrong)
    columns = min(5, num_classes)
    others = (first[:, None] + np.arange(columns)) % num_classes
    confidence = draw.uniform(0.5, 1.0, n).astype(np.float32)
    nll = np.where(hits, -np.log(confidence), 2.0).astype(np.float32)
    top5 = others.astype(np.int16)
    return {"labels": labels, "top5": top5, "confidence": confidence, "nll": nll}


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Return the bytes of an .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def run_record(
    spec: ModelSpec | None = None,
    *,
    seed: int = 0,
    correct: int = 800,
    data: DatasetFacts | None = None,
    recipe: Recipe | None = None,
    env: Environment | None = None,
    precision: str = "fp32",
    epoch_s: float = 10.0,
    files: FileFacts | None = None,
    correct5: int | None = None,
    **changes: Any,
) -> RunRecord:
    """Return a finished run with ``correct`` of the data set's test images right."""
    facts, plan = data or dataset(), recipe or Recipe(name="quick", epochs=3, milestones=())
    who = spec or model()
    n = facts.num_test
    best5 = min(n, correct + (n - correct) // 2) if correct5 is None else correct5
    run = RunSpec(
        model=who,
        data=DataSpec(name=facts.name),
        recipe=plan,
        seed=seed,
        precision=precision,  # type: ignore[arg-type]
    )
    epochs = tuple(
        EpochFacts(
            epoch=epoch,
            loss=2.0 / epoch,
            top1=min(0.99, correct / n * epoch / plan.epochs),
            lr=0.1,
            num_images=facts.num_train,
            epoch_wall_s=epoch_s + 0.1 * seed,
            throughput=facts.num_train / (epoch_s + 0.1 * seed),
        )
        for epoch in range(1, plan.epochs + 1)
    )
    record = RunRecord(
        id=f"run-{run.digest()}-{facts.digest[:4]}",
        status="finished",
        created_at="2026-01-01T00:00:00Z",
        spec=run,
        dataset=facts,
        environment=env or environment(),
        params=23_520_842,
        epochs=epochs,
        test=Accuracy(
            num_images=n,
            top1_correct=correct,
            top5_correct=best5,
            top1=correct / n,
            top5=best5 / n,
            loss=0.6,
        ),
        weights=None,
        predictions=files,
        data_s=1.0,
        build_s=0.5,
        eval_s=2.0,
        checkpoint_s=0.3,
    )
    return record.model_copy(update=changes)


def write_run(folder: Path, hits: Sequence[bool] | np.ndarray | None = None, **kwargs: Any) -> Path:
    """Write a run folder (run.json, and predictions.npz when ``hits`` are given)."""
    if hits is not None:
        hits = np.asarray(hits, dtype=bool)
        arrays = predictions(hits, kwargs.get("seed", 0))
        content = npz(arrays)
        name = "predictions.npz"
        kwargs["files"] = FileFacts(name=name, sha256=hashlib.sha256(content).hexdigest())
        kwargs.setdefault("data", dataset(num_test=len(hits)))
        in5 = int((arrays["top5"] == arrays["labels"][:, None]).any(axis=1).sum())
        kwargs |= {"correct": int(hits.sum()), "correct5": in5}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    record = run_record(kwargs.pop("spec", None), **kwargs)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    path.write_text(to_json(record), encoding="utf-8")
    return path


def profile_record(
    spec: ModelSpec | None = None,
    *,
    call_s: float = 0.1,
    batch_size: int = 64,
    scenario: str = "offline",
    blocks: int = 20,
    noise: float = 0.01,
    seed: int = 0,
    env: Environment | None = None,
    **changes: Any,
) -> ProfileRecord:
    """Return a profile whose calls take ``call_s`` with log-normal noise."""
    who = spec or model()
    draw = np.random.default_rng(seed)
    times = tuple(float(t) for t in call_s * np.exp(noise * draw.standard_normal(blocks)))
    macs = MACS.get((who.name, who.stem), 500_000_000)
    facts: dict[str, Any] = {
        "id": f"profile-{who.name}-{who.stem}-{scenario}-{batch_size}-{seed}",
        "sitting": f"sitting-{seed}",
        "status": "ok",
        "created_at": "2026-01-01T00:00:00Z",
        "model": who,
        "mode": "infer",
        "scenario": scenario,
        "precision": "fp32",
        "runtime": "eager",
        "batch_size": batch_size,
        "spec": TimingSpec(),
        "cost": CostFacts(params=23_520_842, macs=macs, flops=2 * macs, uncounted={"add": 16}),
        "timing": TimingFacts(
            block_s=times,
            block_iters=(1,) * blocks,
            first_call_s=2 * call_s,
            warmup_s=1.0,
            warmup_iters=5,
            steady=True,
            block_round=tuple(range(blocks)),
        ),
        "environment": env or environment(),
    }
    return ProfileRecord(**(facts | changes))


def write_profile(folder: Path, record: ProfileRecord) -> Path:
    """Write a profile record into ``folder`` under its id."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.id.replace('/', '_')}.json"
    path.write_text(to_json(record), encoding="utf-8")
    return path


def write_turns(
    base: Path,
    new: Path,
    factor: float = 1.0,
    *,
    pairs: int = 5,
    noise: float = 0.01,
    seed: int = 0,
    call_s: float = 0.1,
    in_turns: bool = True,
    noise_facts: NoiseFacts | None = None,
    **changes: Any,
) -> None:
    """Write ``pairs`` processes of either side in ABBA order; the new one takes ``factor`` times.

    ``noise`` is that between processes; not ``in_turns`` are all of base before all of new.
    """
    draw, changed = np.random.default_rng(seed), changes.pop("env", {})
    sides = [base, new] * pairs
    if in_turns:
        sides = [
            side for n in range(pairs) for side in ((base, new) if n % 2 == 0 else (new, base))
        ]
    else:
        sides.sort(key=lambda side: side == new)
    for number, side in enumerate(sides):
        took = call_s * (factor if side == new else 1.0) * np.exp(noise * draw.standard_normal())
        began = environment(started_at=f"2026-01-01T00:{number:02}:00Z", **changed)
        record = profile_record(
            call_s=float(took), noise=0.002, seed=1000 * seed + number, env=began, **changes
        )
        record = record.model_copy(update={"noise": noise_facts})
        write_profile(side, record)


def write_example(
    folder: Path, num_test: int = 2000, seeds: int = 1, sittings: int = 1, **changes: Any
) -> Path:
    """Write the three models of the comparison with both stems: runs and profiles.

    ``changes`` are of the profiles.
    """
    accuracy = {"resnet50": 0.80, "se_resnet50": 0.82, "resnet101": 0.81}
    draw = np.random.default_rng(7)
    difficulty = draw.uniform(size=num_test)
    for name, base in accuracy.items():
        for stem, bonus in (("cifar", 0.08), ("imagenet", 0.0)):
            spec = model(name, stem)
            seconds = MACS[name, stem] / 1.3e9
            for seed in range(seeds):
                level = base + bonus + 0.004 * draw.standard_normal()
                hits = difficulty + 0.1 * draw.standard_normal(num_test) < level
                where = folder / "runs" / f"{name}-{stem}-{seed}"
                write_run(where, hits, spec=spec, seed=seed, epoch_s=100 * seconds)
            for batch, scenario in ((64, "offline"), (1, "single_stream")):
                call = seconds * (0.02 + 0.98 * batch / 64)
                own = changes | {"batch_size": batch, "scenario": scenario}
                for number in range(sittings):
                    record = profile_record(spec, call_s=call, seed=number, **own)
                    write_profile(folder / "profiles", record)
    return folder


def damage(path: Path, **changes: Any) -> None:
    """Change keys of a record's JSON without any validation."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(facts | changes), encoding="utf-8")
