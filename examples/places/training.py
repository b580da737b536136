"""Training that a killed run goes on from: batches that are drawn by their number, checkpoints, and a progress bar.

Batch `i` depends on the seed and `i` alone, so a run that starts again at a checkpoint gives the same network as a run
that was not killed.
"""

import argparse
import json
import pathlib
import tempfile
from collections.abc import Callable, Collection, Iterable
from typing import Any

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from rich.console import Console
from rich.progress import Progress

import jaxcam

STEPS_BETWEEN_CHECKPOINTS = 25
MOMENTUM = 0.9  # of batch norm's running statistics: runs are short
TEST_SEED = 1_000_000


def parser_of(text: str | None, *, steps: int, batch: int, test: int) -> argparse.ArgumentParser:
    """The options that the scripts share, with their defaults."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder for weights.npz and scores.json")
    parser.add_argument("--checkpoints", type=pathlib.Path, help="folder of checkpoints; a killed run goes on from it")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--test", type=int, default=test, help="number of held-out samples")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def train(
    model: nnx.Module,
    draw_batch: Callable[[np.random.Generator, int], Any],
    loss: Callable[[Any, Any], jax.Array],
    options: argparse.Namespace,
    *,
    frozen: Collection[str] = (),
) -> nnx.Module:
    """The trained model, in eval mode.

    Args:
      model: a network with batch norm.
      draw_batch: `(generator, size) -> batch`, a pytree of arrays.
      loss: `(model, batch) -> scalar`.
      options: of `parser_of`.
      frozen: names of the model's parts, at any depth, whose parameters stay as they are.
    """

    def is_trained(path, value):
        return isinstance(value, nnx.Param) and not {*path} & {*frozen}

    schedule = optax.warmup_cosine_decay_schedule(0.0, options.rate, options.steps // 20 + 1, options.steps + 1)
    transform = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-3))
    optimizer = nnx.Optimizer(model, transform, wrt=is_trained)
    model.train()
    for _, module in nnx.iter_graph(model):
        if isinstance(module, nnx.BatchNorm):
            module.momentum = MOMENTUM

    @nnx.jit
    def step(model, optimizer, batch):
        value, gradients = nnx.value_and_grad(loss, argnums=nnx.DiffState(0, is_trained))(model, batch)
        optimizer.update(model, gradients)
        return value

    with checkpoints_at(options.checkpoints) as manager:
        start = _restored(manager, model, optimizer)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("training", total=options.steps, completed=start)
            values = []
            for number in range(start, options.steps):
                batch = draw_batch(np.random.default_rng([options.seed, number]), options.batch)
                values.append(step(model, optimizer, batch))
                progress.advance(task)
                if (number + 1) % STEPS_BETWEEN_CHECKPOINTS == 0:
                    print(f"step {number + 1}: loss {np.mean(values):.4f}", flush=True)
                    values.clear()
                    manager.save(number + 1, args=ocp.args.StandardSave(_pure_state(model, optimizer)))
    model.eval()
    return model


def checkpoints_at(folder: pathlib.Path | None) -> ocp.CheckpointManager:
    """The checkpoints in a folder, of which the last is kept; None gives a folder that is forgotten."""
    folder = pathlib.Path(tempfile.mkdtemp()) if folder is None else folder.absolute()
    return ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(max_to_keep=1))


def _pure_state(model, optimizer):
    return nnx.to_pure_dict(nnx.state((model, optimizer)))


def _restored(manager, model, optimizer) -> int:
    """Put the last checkpoint into the model and the optimizer; returns its step, and 0 if there is none."""
    number = manager.latest_step()
    if number is None:
        return 0
    values = manager.restore(number, args=ocp.args.StandardRestore(_pure_state(model, optimizer)))
    state = nnx.state((model, optimizer))
    nnx.replace_by_pure_dict(state, values)
    nnx.update((model, optimizer), state)
    print(f"goes on from step {number}", flush=True)
    return number


def with_blocks_of_digits(model: nnx.Module, blocks: int = 3) -> list[str]:
    """Put the convolutions of the embedded digits network into the model's first blocks; returns the blocks' names."""
    digits = jaxcam.digits()
    for block in range(1, blocks + 1):
        for layer in ("conv1", "conv2"):
            theirs, own = getattr(digits, f"block{block}_{layer}"), getattr(getattr(model, f"block{block}"), layer)
            own.kernel[...], own.bias[...] = theirs.kernel[...], theirs.bias[...]
    return [f"block{block}" for block in range(1, blocks + 1)]


def rounded(model: nnx.Module, build: Callable[[], nnx.Module]) -> tuple[nnx.Module, dict[str, np.ndarray]]:
    """The model as it is saved, and its parameters in float16."""
    arrays = {name: array.astype(np.float16) for name, array in jaxcam.pretrained.to_arrays(model).items()}
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    return jaxcam.pretrained.from_arrays(build, floats), arrays


def in_batches(model: nnx.Module, inputs: Iterable[np.ndarray], size: int = 50) -> Any:
    """The outputs of the model for all inputs, as NumPy arrays."""
    inputs = np.stack(list(inputs))
    run = nnx.jit(lambda model, batch: model(batch))
    parts = [run(model, inputs[i : i + size]) for i in range(0, len(inputs), size)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def write(folder: pathlib.Path, arrays: dict[str, np.ndarray], scores: dict[str, Any]) -> None:
    """Write the weights and the scores, and print the scores. Each file is complete or absent."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        complete_files = pathlib.Path(name)
        np.savez_compressed(complete_files / "weights.npz", **arrays)  # type: ignore[arg-type]
        (complete_files / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
        for file in complete_files.iterdir():
            file.replace(folder / file.name)
    print(json.dumps(scores, indent=2))
