"""The Lightning module that follows a recipe: any network of the Lib, the papers' measurements."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import numpy as np
import torch
from StrokeLesionSegLib.networks import Cascade, build_network
from torch import Generator, Tensor

from ..data.augment import paper_augment
from ..data.cache import Cache
from ..data.resident import ResidentCache
from ..fit.devices import gather, seed_step
from ..metrics import PixelCurves, probability_of, scan_scores, summarise_scans
from .losses import build_loss, cascade_loss
from .planes import Frame, scan_stack
from .recipe import Recipe
from .schedules import rate_factor


class RecipeModule(L.LightningModule):
    """Trains and measures what a ``Recipe`` describes.

    ``total_steps`` is the length of the whole run, along which the schedule runs. Batches are
    those of ``papers.planes``; a validation batch is one scan's number in the cache with the slices
    to be scored. ``cache`` may have been shrunk already, by what the recipe asks for. Once
    ``resident`` is set it lies on the training device, and batches are numbers of slices. Where
    several processes measure a share of the scans each, what they found is gathered.
    """

    def __init__(self, recipe: Recipe, cache: Cache, total_steps: int, seed: int = 0) -> None:
        super().__init__()
        self.recipe, self.cache = recipe, cache
        self.resident: ResidentCache | None = None
        self.measures_a_share = False
        self.total_steps, self.seed = max(1, total_steps), seed
        self.spec = recipe.spec(*(n * cache.shrink for n in cache.images.shape[2:]))
        self.network = build_network(self.spec)
        self.loss = build_loss(recipe.loss)
        frame = recipe.framing
        if frame.shrink % cache.shrink:
            raise ValueError(f"a cache shrunk by {cache.shrink} for a recipe of {frame.shrink}")
        self.frame = Frame(frame.mode, frame.multiple, frame.shrink // cache.shrink)
        self.voxel_mm = float(frame.shrink)
        self.history: list[dict[str, float]] = []
        self.earlier_seconds, self._started = 0.0, time.monotonic()
        self._losses: list[Tensor] = []
        self._rows: list[dict[str, float]] = []
        self._curves = PixelCurves()
        self._validation_losses: list[float] = []

    # -- inputs ---------------------------------------------------------------------------------

    def _framed(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 batches as floats in [0, 1] and {0, 1}, shrunk and framed; slabs as channels."""
        image = self.frame.put(self.frame.shrunk(image.float() / 255.0))
        return image, self.frame.put(self.frame.shrunk(mask.float(), mask=True))

    def _cut(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The uint8 slices or slabs of a batch, which may hold their numbers alone."""
        if self.resident is None:
            return batch["image"], batch["mask"]
        if self.recipe.dimensions == 3:
            return self.resident.slabs(batch["units"], self.recipe.depth)
        return self.resident.slices(batch["units"], self.recipe.neighbours)

    def training_inputs(self, batch: dict[str, Tensor], g: Generator) -> tuple[Tensor, Tensor]:
        """Framed and augmented image and mask; 5D for a volumetric network."""
        image, mask = self._cut(batch)
        slabs = image.ndim == 5
        if slabs:  # slices of a slab move together: they travel as channels
            image, mask = image[:, 0], mask[:, 0]
        image, mask = self._framed(image, mask)
        if self.recipe.augment == "paper":
            image, mask = paper_augment(g, image, mask)
        if slabs:
            return image[:, None], mask[:, None]
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        return image, mask

    @property
    def channels_last(self) -> bool:
        """On GPUs alone: in torch 2.x training narrow networks so on a CPU corrupts its memory."""
        return self.device.type == "cuda" and self.recipe.dimensions == 2

    def on_fit_start(self) -> None:
        if self.channels_last:
            network: Any = self.network  # torch's types leave out memory_format
            network.to(memory_format=torch.channels_last)

    # -- training -------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        # Seeded by the step, dropout's generator too: a resumed run draws what an unbroken one
        # would have drawn.
        step_seed = self.seed * 1_000_003 + self.global_step + 500_000_003 * self.global_rank
        g = seed_step(step_seed, self.device)
        image, mask = self.training_inputs(batch, g)
        if isinstance(self.network, Cascade):
            loss = cascade_loss(g, self.network, image, mask, self.loss)
        else:
            loss = self.loss(self.network(image), mask)
        self._losses.append(loss.detach())  # not yet a number, for which a GPU would have to wait
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        options = dict(self.recipe.optimizer)
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        optimizer = kinds[options.pop("name")](self.network.parameters(), **options)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_factor(self.recipe.schedule, step / self.total_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # -- prediction and measurement -------------------------------------------------------------

    @torch.no_grad()
    def predict_scan(self, n: int, zs: list[int]) -> tuple[np.ndarray, np.ndarray, float]:
        """Probabilities and truth of slices ``zs`` of scan ``n``, (K, H, W) on the shrunk grid,
        and the loss on them. The network must be in evaluation mode."""
        if self.resident is None:
            volume = torch.from_numpy(np.array(self.cache.images[n])).to(self.device)
            truth = torch.from_numpy(np.ascontiguousarray(self.cache.masks[n, zs])).to(self.device)
        else:
            volume, truth = self.resident.images[n], self.resident.masks[n][zs]
        truth = self.frame.shrunk(truth[:, None].float(), mask=True)
        height, width = truth.shape[-2:]
        losses: list[float] = []
        maps: list[Tensor] = []
        if self.recipe.dimensions == 3:
            maps, losses = self._predict_slabs(volume, zs, truth)
        else:
            for a in range(0, len(zs), 32):
                part = zs[a : a + 32]
                stack = scan_stack(volume, part, self.recipe.neighbours)
                x = self.frame.put(self.frame.shrunk(stack.float() / 255.0))
                logits = self.network(x)
                losses.append(float(self.loss(logits, self.frame.put(truth[a : a + 32]))))
                maps.append(self.frame.take(probability_of(logits), height, width))
        probability = torch.cat(maps)[:, 0].cpu().numpy()
        return probability, truth[:, 0].cpu().numpy().astype(np.uint8), float(np.mean(losses))

    def _predict_slabs(
        self, volume: Tensor, zs: list[int], truth: Tensor
    ) -> tuple[list[Tensor], list[float]]:
        """A scan in slabs along z, half overlapping, blended by MONAI's sliding window; slices in
        between that are not asked for are seen all the same."""
        from monai.inferers import sliding_window_inference

        x = self.frame.shrunk(volume[min(zs) : max(zs) + 1][:, None].float() / 255.0)
        height, width = x.shape[-2:]
        x = self.frame.put(x)[:, 0][None, None]  # (1, 1, K, H, W)
        roi = (self.recipe.depth, *x.shape[-2:])
        logits = sliding_window_inference(x, roi, 1, self.network, overlap=0.5, mode="gaussian")
        assert isinstance(logits, Tensor)
        logits = logits[:, :, [z - min(zs) for z in zs]]
        loss = float(self.loss(logits, self.frame.put(truth)[:, 0][None, None]))
        planes = probability_of(logits)[0, 0][:, None]
        return [self.frame.take(planes, height, width)], [loss]

    def validation_step(self, batch: tuple[int, list[int]], index: int) -> None:
        probability, truth, loss = self.predict_scan(*batch)
        self._validation_losses.append(loss)
        self._rows.append(scan_scores(probability, truth, self.voxel_mm, lesionwise=False))
        self._curves.update(torch.from_numpy(probability), torch.from_numpy(truth))

    def on_validation_epoch_end(self) -> None:
        if self.measures_a_share:
            self._rows = gather(self._rows)
            self._validation_losses = gather(self._validation_losses)
            everybody = PixelCurves()
            everybody.add(gather([self._curves]))
            self._curves = everybody
        summary = summarise_scans(self._rows)
        curves = self._curves.compute()
        dice = summary["volume_dice"]
        # A validation part without any lesion cannot rank epochs; early stopping then never acts.
        self.log("val/volume_dice", 0.0 if np.isnan(dice) else dice, prog_bar=True)
        loss = float(np.mean(self._validation_losses)) if self._validation_losses else float("nan")
        self.log("val/loss", loss)
        for key in ("slice_dice", "pooled_dice", "volume_iou"):
            self.log(f"val/{key}", float(np.nan_to_num(summary[key])))
        for key, value in curves.items():
            self.log(f"val/{key}", float(np.nan_to_num(value)))
        if not self.trainer.sanity_checking:
            trained = float(np.mean(self._numbers())) if self._losses else float("nan")
            row = {"epoch": float(self.current_epoch), "train_loss": trained, "val_loss": loss}
            keep = ("volume_dice", "volume_iou", "slice_dice", "slice_iou", "pooled_dice")
            self.history.append({**row, **{k: summary[k] for k in keep}, **curves})
        self._losses, self._rows, self._validation_losses = [], [], []
        self._curves = PixelCurves()

    def _numbers(self) -> list[float]:
        return [float(loss) for loss in self._losses]

    @property
    def seconds(self) -> float:
        """Spent on the run, before it was killed as well."""
        return self.earlier_seconds + time.monotonic() - self._started

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history
        checkpoint["losses"] = self._numbers()
        checkpoint["seconds"] = self.seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = list(checkpoint.get("history", []))
        self.earlier_seconds = float(checkpoint.get("seconds", 0.0))
        # Of the epoch in the middle of which it was written.
        self._losses = [torch.tensor(loss) for loss in checkpoint.get("losses", [])]
