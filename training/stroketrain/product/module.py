"""The Lightning module: losses, schedule, moving average of the weights."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from monai.losses import TverskyLoss
from StrokeLesionSegLib.errors import InputError
from StrokeLesionSegLib.images import MNI_GRID
from StrokeLesionSegLib.models.channels import GUIDANCE, T1, known
from StrokeLesionSegLib.networks import build_network
from torch import Generator, Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..data.augment import augment
from ..data.neighbourhood import Planes, painted_mirror
from ..data.resident import ResidentCache
from ..fit.devices import seed_step
from .options import FitOptions
from .paint import brain_patches, paint_lesions
from .slices import PATCH, VIEWS

# Share of the slices whose mirror image is zeros, as for a scan that could not be aligned.
MIRROR_MISSING = 0.15
_WEIGHT_DECAY = 1e-2


def initialise(network: torch.nn.Module) -> None:
    """He initialisation, and a head biased towards background."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    head = getattr(network, "head", None)
    if isinstance(head, torch.nn.Conv2d) and head.bias is not None:
        with torch.no_grad():
            head.weight.mul_(0.2)
            head.bias.fill_(-2.0)


def named_channels(spec: dict[str, Any], asked: Sequence[str] | None) -> tuple[str, ...]:
    """The names of a network's inputs; raises ``InputError`` for names that do not fit it."""
    count = int(spec.get("in_channels", 1))
    names = tuple(asked) if asked else (T1,)
    if len(names) != count or len(set(names)) != count or names[0] != "t1":
        raise InputError(
            "--channels",
            f"the network takes {count} channels, but {len(set(names))} are named",
            "Name each of them once, t1 first",
        )
    for name in names:
        if name in GUIDANCE:
            raise InputError(
                "--channels", f"{name}: a network of slices takes no clicks", "Leave it out"
            )
        if not known(name):
            raise InputError("--channels", f"no channel is called {name}", "See training/README.md")
    return names


def _levels(answer: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Logits at full resolution and, of a network with deep supervision, at lower ones."""
    return answer if isinstance(answer, tuple) else (answer,)


class LesionModule(L.LightningModule):
    """Trains any 2D network of the Lib on slice batches (``product.slices.SliceStream``).

    What ``options`` mean:

    network: the network's plain dict, see ``build_network``.
    channels: names of its inputs in their order, see ``models.channels`` of the engine; one input
        needs no name.
    lr: the rate of AdamW; it warms up over 3 percent of ``steps`` and falls as a cosine.
    minutes: a budget of wall time; the schedule then follows whichever of steps and time is
        further on, so that a slow machine ends at a small rate too (and a run is not repeatable to
        the bit).
    positive_weight: weight of lesion pixels in the cross entropy at the start; it falls to 1.5 over
        the first 60 percent of the run. Without it the network rests for thousands of steps at "no
        lesion anywhere", where the Dice loss has hardly a gradient; with it to the end it would
        mark too much.
    false_positive: weight of false against missed pixels in the Tversky loss, whose weights add up
        to 1; .5 makes it the Dice loss.
    hard_share: share of the pixels of a batch, the worst ones, whose cross entropy counts once more
        by itself (TopK loss); 0 for none. Most pixels are easy, and a false spot in a healthy slice
        would vanish in the mean.
    paint: share of the slices into which a lesion of random look is painted (``product.paint``).
    soft: weight of a teacher's probability in the target, where the cache has one; the rest is its
        mask. A painted lesion is certain.
    compile: run the training passes through ``torch.compile`` (needs a C++ compiler on a CPU);
        the first batch of each view then takes about a minute.
    ema: decay of the exponential moving average of the weights, which is what is kept.
    """

    def __init__(self, options: FitOptions) -> None:
        super().__init__()
        # The scans on the training device; batches are then places in them.
        self.resident: ResidentCache | None = None
        self.started = time.monotonic()
        self.options = options
        spec = dict(options.network)
        # Narrower convolutions crash in oneDNN's backward pass of channels last (torch 2.13, CPU).
        narrow = min(spec.get("filters", (32,))) < 16
        self.layout = torch.contiguous_format if narrow else torch.channels_last
        network: Any = build_network(spec)  # torch's types leave out memory_format
        self.network = network.to(memory_format=self.layout)
        initialise(self.network)
        # In a tuple, so that it is no second set of the same weights in the checkpoint.
        self._forward = (
            torch.compile(self.network, dynamic=False) if options.compile else self.network,
        )
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(options.ema), use_buffers=True
        )
        # It takes no gradient, and distributed training would wait for one.
        self.average.requires_grad_(False)
        self.channels = named_channels(spec, options.channels)
        self.planes = Planes.of_channels(self.channels)
        # Over the whole batch: slices without lesion then cost what they add, not a constant.
        self.region_loss = TverskyLoss(
            sigmoid=True,
            batch=True,
            alpha=options.false_positive,
            beta=1 - options.false_positive,
            smooth_nr=1.0,
            smooth_dr=1.0,
        )

    def start_from(self, weights: Path) -> None:
        """Begin with the weights of an earlier run (safetensors) instead of random ones.

        Channels behind those that its network had weigh nothing at first.
        """
        from safetensors.torch import load_file

        state = load_file(str(weights))
        for name, wanted in self.network.state_dict().items():
            old = state.get(name)
            if old is not None and old.ndim == wanted.ndim == 4 and old.shape != wanted.shape:
                more = wanted.shape[1] - old.shape[1]
                if more > 0 and wanted.shape[1] == len(self.channels):
                    state[name] = F.pad(old, (0, 0, 0, 0, 0, more))
        refusal = InputError(
            weights,
            "its tensors do not fit the network",
            "Name the network that it was trained with",
        )
        try:
            missing, unexpected = self.network.load_state_dict(state, strict=False)
        except RuntimeError as error:  # tensors of other shapes
            raise refusal from error
        lost = [n for n in missing if not n.endswith("num_batches_tracked")]
        if lost or unexpected:
            raise refusal
        self.average.module.load_state_dict(self.network.state_dict())

    def _cut(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """The uint8 planes of a batch, which may hold their places alone, and what a teacher says
        of the slice."""
        if self.resident is None:
            return batch["image"], batch["mask"], batch.get("soft")
        axis = int(batch["axis"])
        size = PATCH[VIEWS[axis]]
        image, mask = self.resident.patches(axis, batch["places"], size, self.planes)
        return image, mask, self.resident.soft_patches(axis, batch["places"], size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        # The two numbers of a batch decide about it on the host; a GPU would be waited for.
        return {k: v if v.ndim == 0 else v.to(device, non_blocking=True) for k, v in batch.items()}

    def _ordered(self, image: Tensor) -> Tensor:
        """The network's input: planes (B, P, H, W) in the order of its channels."""
        names = self.planes.names(self.channels)
        return image[:, [names.index(name) for name in self.channels]]

    def training_inputs(self, batch: dict[str, Tensor], g: Generator) -> tuple[Tensor, Tensor]:
        """Augmented image planes (B, P, H, W) in [0, 1], the slice itself first, and its target
        (B, 1, H, W) on the device: 0 and 1, in between where a teacher was not certain."""
        image, mask, soft = self._cut(batch)
        mirror = bool(batch["mirror"])
        image, mask = image.float() / 255.0, mask.float()
        drawn = mask[:, :1]
        axis, places = int(batch["axis"]), batch["places"]
        offsets, near = self.planes.offsets, 1 + len(self.planes.offsets)
        share = self.options.paint
        if share:
            brain = brain_patches(axis, places, image.shape[-2:], offsets).to(image.device)
            painted, mask = paint_lesions(g, image[:, :near], mask, brain, share, offsets)
            image = torch.cat([painted, image[:, near:]], dim=1)
        mask = mask[:, :1]  # those of the neighbours were for painting
        if soft is not None:
            said = torch.lerp(drawn, soft.float() / 255.0, self.options.soft)
            mask = torch.where(mask > drawn, mask, said)
        if not self.planes.mirror:
            return augment(g, image, mask, mirror=mirror)
        other = painted_mirror(image[:, :1], image[:, near:], axis, places, MNI_GRID.shape[2])
        image = torch.cat([image[:, :near], other], dim=1)
        image, mask = augment(g, image, mask, mirror=mirror, mirrored=near)
        there = torch.rand(len(image), generator=g, device=g.device).to(image.device)
        there = (there >= MIRROR_MISSING).view(-1, 1, 1, 1)
        return torch.cat([image[:, :near], image[:, near:] * there], dim=1), mask

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        # Seeded by the step, dropout's generator too: a resumed run draws what an unbroken one
        # would have drawn.
        step_seed = self.options.seed * 1_000_003 + self.global_step
        step_seed += 500_000_003 * self.global_rank
        g = seed_step(step_seed, self.device)
        image, mask = self.training_inputs(batch, g)
        x = self._ordered(image).contiguous(memory_format=self.layout)
        answer = self._forward[0](x)
        logits, loss = _levels(answer)[0].float(), self._loss(answer, mask)
        self.log("train/loss", loss, prog_bar=True)
        with torch.no_grad():
            guess = logits > 0
            wanted = mask > 0.5
            dice = 2 * (guess & wanted).sum() / (guess.sum() + wanted.sum()).clamp_min(1)
        self.log("train/batch_dice", dice, prog_bar=True)
        return loss

    def _loss(self, answer: Tensor | tuple[Tensor, ...], mask: Tensor) -> Tensor:
        """Loss of logits (B, 1, H, W); with deep supervision each further level, half the size of
        the one before, counts half of it, and a pixel there is lesion if any of its own is."""
        loss, share = torch.zeros((), device=mask.device), 1.0
        for logits in _levels(answer):
            logits = logits.float()
            wanted = F.adaptive_max_pool2d(mask, logits.shape[-2:])
            one = self.region_loss(logits, wanted) + self._entropy(logits, wanted, self.global_step)
            loss, share = loss + share * one, share / 2
        return loss

    def _entropy(self, logits: Tensor, mask: Tensor, step: int) -> Tensor:
        start = self.options.positive_weight
        end = min(start, 1.5)
        weight = max(end, start * (1 - self.progress(step) / 0.6))
        each = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
        entropy = (each * (1 + (weight - 1) * mask)).mean()
        share = self.options.hard_share
        if share:
            entropy = (
                entropy + each.flatten().topk(max(1, round(share * each.numel()))).values.mean()
            )
        return entropy

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        super().optimizer_step(*arguments, **options)
        # Here and not when the batch has ended: checkpoints are written just before that.
        # A young average would drag the random initial weights along.
        if self.global_step + 1 < 500:
            self.average.n_averaged.zero_()
        self.average.update_parameters(self.network)

    def on_train_batch_end(self, *_: Any) -> None:
        if self.options.minutes and self.progress(self.global_step) >= 1:
            self.trainer.should_stop = True

    def progress(self, step: int) -> float:
        """Share of the run that is over, in [0, 1]."""
        done = step / max(1, self.options.steps)
        minutes = self.options.minutes
        if minutes:
            done = max(done, (time.monotonic() - self.started) / 60 / minutes)
        return min(1.0, done)

    def configure_optimizers(self) -> Any:
        decay = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": decay, "weight_decay": _WEIGHT_DECAY},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=self.options.lr,
        )
        warm = max(1, round(0.03 * self.options.steps))

        def factor(step: int) -> float:
            cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress(step)))
            return min((step + 1) / warm, cosine)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
