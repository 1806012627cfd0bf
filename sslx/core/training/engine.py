"""The training loop.

A step is a pure function of (weights, seed, step, rank): data order and views come from (seed, epoch, index), and
torch's generators are seeded before each epoch and each step. So a checkpoint holds tensors and a step number, and a
resumed run continues bit for bit.
"""

import math
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from sslx.core import signals
from sslx.core.chunks import chunks
from sslx.core.console import say
from sslx.core.data import Split
from sslx.core.errors import CheckpointError, ConfigError, Interrupted, NonFiniteError, PluginError, Pruned
from sslx.core.files import replace, sealed
from sslx.core.interfaces import Method
from sslx.core.randomness import Use, seed_of, seed_torch
from sslx.core.terms import Terms
from sslx.core.training import checkpoint, gate
from sslx.core.training.config import RunConfig, Training
from sslx.core.training.diagnosis import excess, reserved
from sslx.core.training.during import Best, Scored, Scores, best_of
from sslx.core.training.gate import Gate
from sslx.core.training.precision import Scaler, advice, arrange, match_strides, matrix_products
from sslx.core.training.progress import Progress, numbers
from sslx.core.training.run_folder import RunFolder
from sslx.core.training.runtime import Runtime
from sslx.core.training.shapes import first_step
from sslx.core.views import Views

_FIRST = 30  # seconds before the first checkpoint, unless `train.checkpoint_minutes` is less
_LONG = 60  # seconds of training after which the engine says once that another precision is faster


def _look_at(views: Views) -> None:
    """Warn if all views of an image are equal."""
    if views.count > 1 and bool((views.x == views.x[:, :1]).all()):
        advice = "`--set views.crop=0.4,1` is one way to make them differ"
        say(f"all {views.count} views of an image are equal, as nothing changes them: {advice}")


def check(training: Training, split: Split, world: int) -> None:
    """Raise ConfigError if the batch size does not fit the numbers of images and processes; warn of a long warm-up."""
    size, samples = training.batch_size, len(split)
    if size > samples and training.epochs:
        raise ConfigError(
            f"train.batch_size: expected at most {samples}, the number of training images, got {size}; "
            f"--batch-size {samples} is one batch an epoch"
        )
    if size % world:
        raise ConfigError(f"train.batch_size: expected a multiple of {world}, the number of processes, got {size}")
    if size // world % split.arity:
        raise ConfigError(
            f"train.batch_size: expected a multiple of {split.arity * world}, as {split.arity} images belong together"
            f" in each process, got {size}"
        )
    if 0 < training.epochs <= (warmup := training.optimizer.warmup_epochs):
        say(f"the learning rate rises during {warmup:g} epochs, and the training has {training.epochs}")


class Engine:
    """Trains a built method on a split. `notify(hook, **arguments)` is called with metrics, epochs and checkpoints.

    `rests_on` is what each checkpoint says of its config and data. `score` scores a method that is being trained; it
    is called on the main process alone, and changes nothing. `prune` is called there with the scores so far, after each
    evaluation but the last, and says whether a search gives up the run.
    """

    def __init__(
        self,
        config: RunConfig,
        method: Method,
        split: Split,
        runtime: Runtime,
        folder: RunFolder,
        notify: Callable[..., None],
        progress: bool = True,
        rests_on: Mapping[str, str] = {},
        score: Callable[[Method], Scores] | None = None,
        prune: Callable[[Scored], bool] | None = None,
    ) -> None:
        self.rests_on, self.score, self.prune = rests_on, score, prune
        self.config, self.method, self.runtime, self.folder, self.notify = config, method, runtime, folder, notify
        self.training = config.train
        self.progress = progress and runtime.main
        self.per_epoch = len(split) // self.training.batch_size  # an incomplete last batch is left out
        self.parameters = [weight for weight in method.parameters() if weight.requires_grad]
        self.total = self.training.epochs * self.per_epoch if self.parameters else 0
        self.step = 0
        self.scores: list[tuple[int, dict[str, float]]] = []  # step and scores of each evaluation so far
        self.best: Best | None = None  # among them
        self.cpu_seconds = 0.0
        self.seconds = 0.0
        self.complete = self.total == 0
        self.split = split
        config.loader.open(split, runtime.device)
        self.method.train()
        if runtime.device.type == "cuda":
            arrange(method)
        if self.training.compile:
            self.method.compile()  # in place, which keeps the names of the weights
        self.module = runtime.wrap(method, self.training.norm) if self.parameters else method
        self.optimizer: torch.optim.Optimizer | None = None
        # A tensor, which a captured step can read. In float64 the CPU's steps are those of a Python number.
        wide = torch.float64 if runtime.device.type == "cpu" else torch.float32
        self.rate = torch.zeros((), dtype=wide, device=runtime.device)
        if self.parameters:
            self.optimizer = self.training.optimizer.build(self.training.optimizer.groups(method))
            self._hand_over_rate()
        self.advice = advice(runtime.precision, runtime.device)
        self.scaler = Scaler(runtime.device) if runtime.precision == "fp16" else None
        self.gate: Gate | None = None
        waits = runtime.device.type in gate.DEVICES and runtime.world == 1  # several processes agree in every step
        if self.optimizer is not None and waits and gate.skips(self.optimizer) and gate.gateable(method):
            self.gate = Gate(method, self.optimizer, runtime.device)

    def fit(self) -> None:
        """Train to the end.

        Raises Interrupted after a stop signal, NonFiniteError before a non-finite update, and Pruned.
        """
        if self.complete and self.step == 0:
            self.save()  # nothing is trained: the initial weights are the result
        clock, cpu = time.monotonic() - self.seconds, time.process_time() - self.cpu_seconds / self.runtime.world
        saved = time.monotonic()
        with Progress(self.total, self.step, self.training.epochs, enabled=self.progress) as progress:
            while not self.complete:
                epoch, done = divmod(self.step, self.per_epoch)
                self.heed_search(epoch)
                if done == 0:
                    seed_torch(seed_of(Use.EPOCH, self.config.seed, epoch))  # on all processes alike
                    self.method.before_epoch(epoch)
                for views in self.batches(epoch, done):
                    if self.step == 0:
                        _look_at(views)
                    with first_step(self.config, views) if self.step == 0 else nullcontext():
                        terms, norm = self.update(views, epoch)
                    self.step += 1
                    if self.step % self.training.log_every == 0 or self.step % self.per_epoch == 0:
                        self.settle()
                    self.seconds = time.monotonic() - clock
                    self.cpu_seconds = self.runtime.total(time.process_time() - cpu)
                    paused = time.monotonic(), time.process_time()  # scores, records and reports are not training
                    scores = self.evaluate(progress)
                    self.complete = self.is_complete()
                    self.record(terms, norm, epoch, views, progress, scores)
                    clock, cpu = clock + time.monotonic() - paused[0], cpu + time.process_time() - paused[1]
                    pause = min(60 * self.training.checkpoint_minutes, max(_FIRST, saved - clock))
                    stop, due = self.runtime.agree(bool(signals.received()), time.monotonic() - saved >= pause)
                    every = self.training.checkpoint_steps
                    improved = self.best is not None and self.best.step == self.step
                    if self.complete or stop or due or improved or (every and self.step % every == 0):
                        self.save()
                        saved = time.monotonic()
                    if stop and not self.complete:
                        raise Interrupted(f"stopped by {signals.received() or 'another process'} at step {self.step}")
                    if self.complete:
                        break
                if self.step % self.per_epoch == 0:
                    self.notify("sslx_epoch_end", epoch=epoch)
        if self.step < self.total:
            option, rate = "stop" if self.has_stalled() else "cpu_seconds", self.training.optimizer
            ended = f"train.{option} ended the training at step {self.step} of {self.total}"
            if self.step <= rate.warmup_epochs * self.per_epoch:
                say(f"{ended}, while the learning rate was rising; choose a smaller train.warmup_epochs")
            elif rate.schedule == "cosine":
                say(
                    f"{ended}, but the cosine schedule of the learning rate spans all of them; choose train.epochs to "
                    "fit the time"
                )
        if self.best is not None and self.best.step < self.step:
            step, score, name, _ = self.best
            say(
                f"{name} was best at step {step} of {self.step}, {score:.4g}; "
                f"`sslx eval {self.folder.path} --checkpoint {step}` evaluates that checkpoint"
            )

    def is_complete(self) -> bool:
        """Whether all steps are done, the processor time of all processes is spent, or a score no longer improves."""
        spent = self.cpu_seconds >= (self.training.cpu_seconds or math.inf)
        return self.step >= self.total or spent or self.has_stalled()

    def has_stalled(self) -> bool:
        """Whether `train.stop` ends the training, as its score has not improved in so many evaluations."""
        return self.best is not None and self.best.since >= (self.training.stop.patience or math.inf)

    def evaluate(self, progress: Progress) -> Mapping[str, float]:
        """Score the method if it is time. Returns scores by name, none if it is not."""
        every = self.training.evaluate.every
        if self.score is None or every is None or self.step % (every * self.per_epoch):
            return {}
        self.settle()
        score, found = self.score, dict[str, float]()
        results = self.runtime.lead(lambda: score(self.method))
        for scores in results.values():
            found |= scores
        progress.scores = numbers(dict(next(iter(scores.items())) for scores in results.values()))
        if found:
            self.scores.append((self.step, found))
            self.best = best_of(self.scores, self.config)
        return found

    def heed_search(self, epoch: int) -> None:
        """Raise Pruned, with a checkpoint, if this step was evaluated, in this process or before, and is given up."""
        if self.prune is None or not self.scores or self.scores[-1][0] != self.step:
            return
        prune, scores, places = self.prune, self.scores, self.folder.checkpoints
        given_up, saved = self.runtime.lead(lambda: (prune(scores), self.step in checkpoint.steps(places)))
        if given_up:
            if not saved:
                self.save()
            raise Pruned(f"pruned after epoch {epoch} of {self.training.epochs}")

    def batches(self, epoch: int, done: int) -> Iterator[Views]:
        """This process's share of the batches of an epoch, beginning with batch `done`."""
        order = self.split.shuffled(Use.ORDER, self.config.seed, epoch)
        size, rank, world = self.training.batch_size, self.runtime.rank, self.runtime.world
        share = size // world
        starts = range(done * size + rank * share, self.per_epoch * size, size)
        indices = [order[start : start + share] for start in starts]
        split, seed = self.split, self.config.seed
        if split.fresh is not None:
            self.config.loader.open(attrs.evolve(split, images=split.fresh(seed, epoch)), self.runtime.device)
        for index, images in zip(indices, self.config.loader.batches(indices), strict=True):
            sizes = None if split.sizes is None else split.sizes[index]
            views = self.config.views(images, index, seed=seed, epoch=epoch, sizes=sizes)
            yield attrs.evolve(views, seed=seed, epoch=epoch)

    def loss(self, views: Views) -> Terms:
        """Forward pass of the current step, with torch's generators seeded for it."""
        seed_torch(seed_of(Use.STEP, self.config.seed, self.step, self.runtime.rank))
        with self.runtime.autocast(), chunks(self.training.chunk) as used:
            terms = self.module(views)
        name = type(self.method).__name__
        if used is not None and self.step == 0:
            if not used.used:
                say(f"train.chunk: no network of {name} computes in chunks, so it has no effect")
            elif used.normalized:
                say(f"train.chunk: batch normalization has the statistics of {used.size} views, not of the batch")
        if not isinstance(terms, Terms):
            raise PluginError(f"{name}.forward must return Terms, it returned {type(terms).__name__}")
        for label, term in terms.items():
            if reserved(label):
                raise PluginError(f"{name}.forward: a term cannot be called {label!r}, which every record has already")
            if not isinstance(term.value, Tensor) or term.value.ndim:
                got = tuple(term.value.shape) if isinstance(term.value, Tensor) else type(term.value).__name__
                raise PluginError(f"{name}.forward: term {label!r} must be a tensor of one number, shape (), got {got}")
        if not terms.total.requires_grad:
            raise PluginError(f"{name}.forward: no term has a gradient that reaches a parameter")
        return terms

    def update(self, views: Views, epoch: int) -> tuple[Terms, Tensor]:
        """One step. Nothing is changed if the loss or the gradient is not finite on any process.

        With a gate this is learned later, in `settle`, and no step changes anything until then. A step whose float16
        gradients overflow is left out.
        """
        assert self.optimizer is not None
        self.rate.fill_(self.training.optimizer.rate(self.step, self.total, self.per_epoch))
        if self.gate is not None:
            self.gate.keep()
            terms, norm, overflow = self.gradient(views)
            self.gate.judge(terms.total, norm, self.step, overflow)
            self.optimizer.step()
            self.method.after_step(self.step)
            self.gate.restore()
            return terms, norm
        terms, norm, overflow = self.gradient(views)
        finite = math.isfinite(terms.total.item()), math.isfinite(norm.item())
        left_out = finite[0] and overflow is not None and bool(overflow)
        bad, *_ = self.runtime.agree(not (all(finite) or left_out))
        if bad:
            self.crash(views, terms, float(norm), epoch)
        if not left_out:
            self.optimizer.step()
            self.method.after_step(self.step)
        return terms, norm

    def gradient(self, views: Views) -> tuple[Terms, Tensor, Tensor | None]:
        """Terms and gradient of the current step: the terms, the norm before clipping, and whether float16 overflows.

        The flag is 1 if this step is to be left out; None if the loss is not scaled.
        """
        assert self.optimizer is not None
        with matrix_products(self.runtime.precision):
            terms = self.loss(views)
            loss = terms.total
            self.optimizer.zero_grad()
            (loss if self.scaler is None else loss * self.scaler.scale).backward()
        overflow = None if self.scaler is None else self.scaler.unscale(self.parameters)
        return terms, self.clip(), overflow

    def settle(self) -> None:
        """Wait for the steps so far, if there is a gate. Raises NonFiniteError if one of them was not finite.

        That step is repeated, from the state before it, which it has not changed, to see what is not finite.
        """
        if self.gate is None or (found := self.gate.read()) is None:
            return
        self.step, norm = found
        epoch, done = divmod(self.step, self.per_epoch)
        views = next(self.batches(epoch, done))
        self.gate.keep()
        terms, again, _ = self.gradient(views)
        self.gate.restore()
        self.crash(views, terms, norm if math.isfinite(again.item()) else float(again), epoch)

    def clip(self) -> Tensor:
        """Norm of the gradient, before it is clipped."""
        if self.training.clip_norm is not None:
            return torch.nn.utils.clip_grad_norm_(self.parameters, self.training.clip_norm)
        return torch.nn.utils.get_total_norm([w.grad for w in self.parameters if w.grad is not None])

    def record(
        self, terms: Terms, norm: Tensor, epoch: int, views: Views, progress: Progress, scores: Mapping[str, float]
    ) -> None:
        every = self.training.log_every
        count, spent = len(views.flat) * self.runtime.world, self.cpu_seconds / (self.training.cpu_seconds or math.inf)
        if self.step % every and not self.complete and not scores:
            progress.advance(self.step, count, spent=spent)
            return
        self.settle()
        values = self.runtime.mean(torch.stack([term.value.detach().float() for term in terms.values()])).tolist()
        metrics = dict(zip(terms, values, strict=True))
        loss = sum(term.weight * metrics[name] for name, term in terms.items() if term.weight)
        progress.advance(self.step, count, {"loss": loss, **metrics}, spent)
        if self.seconds > _LONG and (line := self.advice):
            self.advice = ""
            say(line)
        if self.runtime.main:
            lr = self.training.optimizer.rate(self.step - 1, self.total, self.per_epoch)
            terms_ = {"loss": loss, **metrics, **excess(terms, metrics)}
            steepness = {"gradient_norm": float(norm)} if norm.isfinite() else {}  # not if float16 overflowed
            record = {"step": self.step, "epoch": epoch, **terms_, **steepness, "lr": lr}
            self.folder.log({**record, "scores": scores} if scores else record)
            self.notify("sslx_metrics", step=self.step, metrics={**record, **scores})

    # --- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        scaler = {} if self.scaler is None else {"scaler": self.scaler.state_dict()}
        return {
            "method": self.method.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "step": self.step,
            "complete": self.complete,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            **scaler,
        }

    def save(self) -> Path:
        """Commit a checkpoint of the current step."""
        self.settle()
        if not all(bool(weight.isfinite().all()) for weight in self.parameters):
            raise NonFiniteError(f"weights are not finite after step {self.step}; those of the last checkpoint are")
        about = {**self.rests_on, "metrics": self.folder.sync()} if self.runtime.main else {}
        local, keep = self.method.local_state(), self.training.checkpoint_keep
        best = None if self.best is None else self.best.step
        path = checkpoint.save(self.folder.checkpoints, self.step, self.state(), local, self.runtime, keep, about, best)
        if self.runtime.main:
            self.notify("sslx_checkpoint", path=path)
        return path

    def restore(self, path: Path) -> None:
        """Continue from a verified checkpoint, with any number of processes.

        Raises CheckpointError if it does not fit, or if local state cannot be divided among this number of processes.
        """
        before, world = checkpoint.verify(path)["world"], self.runtime.world
        shared = checkpoint.fill(self.method, path, self.runtime.rank, world)
        if self.optimizer is not None:
            try:
                self.optimizer.load_state_dict(shared["optimizer"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CheckpointError(f"{path}: its optimizer does not fit the method: {error}") from error
            match_strides(self.optimizer)
            self._hand_over_rate()
        if self.scaler is not None and "scaler" in shared:  # a resumed run may change its precision
            self.scaler.load_state_dict(shared["scaler"])
        self.step, self.seconds, self.cpu_seconds = shared["step"], shared["seconds"], shared["cpu_seconds"]
        if self.training.evaluate.every is not None:
            self.scores = self.runtime.lead(self.folder.scores)
            self.best = best_of(self.scores, self.config)
        self.complete = self.is_complete()
        if before != world and not self.complete:
            divided = "".join(f"; {name} is divided among them" for name in self.method.local_state())
            count = f"{world} processes" if world > 1 else "one process"
            say(f"{self.folder.path}: continues with {count} instead of {before}, and other random numbers{divided}")

    def _hand_over_rate(self) -> None:
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def crash(self, views: Views, terms: Terms, norm: float, epoch: int) -> None:
        """Save what is needed to replay this step, and raise NonFiniteError."""
        path = checkpoint.save(
            self.folder.crash, self.step, self.state(), self.method.local_state(), self.runtime, keep=2
        )
        unknown, *_ = self.runtime.agree(not all(_finite(term.value) for term in terms.values()))
        names = [] if unknown else self.not_finite(views)  # on all processes or on none
        mine = {
            "rank": self.runtime.rank,
            "gradients": names,
            "samples": views.index.tolist(),
            "terms": {name: repr(term.value.item()) for name, term in terms.items()},
            "reasons": [term.reason for term in terms.values() if term.reason],
            "gradient_norm": repr(norm),
            "not_finite": sorted(
                name for name, w in self.method.named_parameters() if w.grad is not None and not _finite(w.grad)
            ),
        }
        processes = self.runtime.collect(mine)
        bad = [f"{n} = {v}" for p in processes for n, v in p["terms"].items() if v in ("nan", "inf", "-inf")]
        steep = dict.fromkeys(f"the gradient of {n}" for p in processes for n in p["gradients"])
        known = dict.fromkeys(reason for p in processes for reason in p["reasons"])
        norms = f"gradient norm = {norm}" + (f", not finite is {' and '.join(steep)}" if steep else "")
        cause = "; ".join(known) or "; ".join(bad) or norms
        if self.runtime.main:
            facts = {"step": self.step, "epoch": epoch, "seed": self.config.seed, "processes": processes}
            replace(self.folder.crash / "crash.json", sealed(facts))
        raise NonFiniteError(
            f"step {self.step + 1}: {cause}; nothing was updated. `sslx replay {self.folder.path}` repeats the step; "
            f"state in {path}"
        )

    def not_finite(self, views: Views) -> list[str]:
        """The terms whose gradients are not finite, from the same step again."""
        seed_torch(seed_of(Use.STEP, self.config.seed, self.step, self.runtime.rank))
        with self.runtime.autocast(), chunks(self.training.chunk):
            terms = self.method(views)
        found = []
        for name, term in terms.items():
            if term.weight and term.value.requires_grad:
                gradients = torch.autograd.grad(
                    term.weight * term.value, self.parameters, retain_graph=True, allow_unused=True
                )
                squares = [g.float().square().sum() for g in gradients if g is not None]
                if squares and not _finite(torch.stack(squares).sum()):
                    found.append(name)
        return found


def _finite(x: Tensor) -> bool:
    return bool(x.isfinite().all())


def replay(engine: Engine) -> Mapping[str, Any]:
    """Repeat the step at which a run crashed, with anomaly detection.

    Returns its terms and the norm of its gradient; `gradients`, the terms whose gradients are not finite; `module`, the
    first module of the method whose output is not finite; and `anomaly`, the first function whose gradient is NaN, with
    the line of code that called it. Raises ConfigError if the run did not crash.
    """
    path, _ = checkpoint.newest(engine.folder.crash)
    if path is None:
        raise ConfigError(f"{engine.folder.path}: nothing to replay, the run did not crash")
    engine.restore(path)
    epoch, done = divmod(engine.step, engine.per_epoch)
    views = next(engine.batches(epoch, done))
    bad: list[str] = []
    hooks = [
        part.register_forward_hook(partial(_note, bad, name)) for name, part in engine.method.named_modules() if name
    ]
    anomaly = ""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with torch.autograd.detect_anomaly(check_nan=True):
            terms = engine.loss(views)
            try:
                terms.total.backward()
            except RuntimeError as error:
                anomaly = _called("\n".join([str(error), *(str(each.message) for each in said)]))
    for hook in hooks:
        hook.remove()
    values = {name: term.value.item() for name, term in terms.items()}
    norm = math.nan if anomaly else float(engine.clip())  # detection ends the backward pass at the first NaN
    return {
        "step": engine.step + 1,
        "terms": values,
        "gradient_norm": norm,
        "gradients": engine.not_finite(views),
        "module": bad[0] if bad else "",
        "anomaly": anomaly,
    }


def _note(bad: list[str], name: str, module: nn.Module, given: object, output: object) -> None:
    """Hook that appends the name of a module if its output has a number that is not finite."""
    found = output if isinstance(output, tuple | list) else [output]
    if any(isinstance(each, Tensor) and not _finite(each) for each in found):
        bad.append(name)


def _called(said: str) -> str:
    """The function that torch's anomaly detection names, with the line of code outside torch that called it."""
    function = re.search(r"'(\w+Backward\w*)'", said)
    places = [m for m in re.findall(r'File "(.+)", line (\d+), in .+\n +(.+)', said) if "/torch/" not in m[0]]
    name = function[1] if function else said.splitlines()[0]
    if not places:
        return name
    file, line, text = places[-1]
    return f"{name} of `{text}` ({'/'.join(file.split(os.sep)[-3:])}:{line})"
