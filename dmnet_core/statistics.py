"""The image-wide numbers of the network: recorded on some pixels, used by every window of a scene.

A few modules of the network look at all the pixels they are given: the transposed attention of each
transformer layer, the channel poolings of CSAB, and in DM's U-Net the group normalisations and the
attention in the middle. A window of a scene that took these numbers from its own pixels would disagree
with its neighbours. So they are recorded once a scene, and each window uses what was recorded:

    with recording(model, counted) as statistics:
        model(ir, vis, noise)
    with replaying(model, statistics):
        model(ir_window, vis_window, noise_window)

Each such module asks `image_wide(self)`. The answer is None where nothing is recorded or replayed, and
the module takes its own numbers. A `with` holds for one model and for the thread that it stands in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor, nn

Take = Callable[[str, Callable[[], Tensor]], Tensor]
"""Gives the tensor of a name: measures and keeps it, or looks it up."""


@dataclass(frozen=True)
class Counted:
    """Which pixels of a batch take part in the statistics."""

    mask: Tensor
    """(B, H, W) bool, False for pixels that take no part, such as a halo. At the coarser scales of the
    network a pixel takes part where any pixel of its square does."""
    weights: Tensor
    """(B,) float, how much each image's pixels weigh in means; all take part in maxima, as keys and as
    values."""

    def pixels(self, x: Tensor) -> Tensor:
        """Return the pixels of a (B, C, h, w) map that take part, (N, C) float32."""
        return x.permute(0, 2, 3, 1)[self._at(x)].float()

    def shares(self, x: Tensor) -> Tensor:
        """Return the share of each of these pixels in a mean, (N, 1) float64; the sum is 1."""
        mask = self._at(x)
        weights = self.weights.double()[:, None, None].expand(mask.shape)[mask]
        return (weights / weights.sum())[:, None]

    def _at(self, x: Tensor) -> Tensor:
        rows, columns = (n // m for n, m in zip(self.mask.shape[1:], x.shape[2:], strict=True))
        squares: Tensor = self.mask.unflatten(2, (-1, columns)).any(dim=3).unflatten(1, (-1, rows))
        return squares.any(dim=2)


@dataclass(frozen=True)
class SceneStatistics:
    """The image-wide numbers of a network for one scene."""

    tensors: dict[str, Tensor]
    """float32 tensors by name, as in `dtb.layers.0.attention/1/products`: the module, the number of its
    call, the kind. DTB is called on infrared, then visible; CSAB on the latent map, infrared, visible;
    the U-Net on each noise step. The kinds are:

        mean      (1, C) mean over the pixels
        square    (1, C) mean of the squares
        products  (1, C, C) mean of the products of each two channels
        maximum   (1, C)
        key       (1, N, C) of each of N pixels
        value     (1, N, C) of each of N pixels
    """
    num_pixels: int
    """Number of pixels that the numbers were taken from, at the image's resolution."""


class ModuleStatistics:
    """The statistics of one call of a module; each method takes that call's (B, C, h, w) map."""

    def __init__(self, prefix: str, take: Take, counted: Counted | None) -> None:
        self._prefix = prefix
        self._take = take
        self._counted = counted

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean of each channel, (1, C)."""
        return self._of("mean", lambda counted: _mean(x, counted))

    def square(self, x: Tensor) -> Tensor:
        """Return the mean square of each channel, (1, C)."""
        return self._of("square", lambda counted: _mean(x.float().square(), counted))

    def maximum(self, x: Tensor) -> Tensor:
        """Return the maximum of each channel, (1, C)."""
        return self._of("maximum", lambda counted: counted.pixels(x).amax(dim=0)[None])

    def products(self, x: Tensor) -> Tensor:
        """Return the mean product of each two channels, (1, C, C)."""
        return self._of("products", lambda counted: _products(x, counted))

    def key(self, x: Tensor) -> Tensor:
        """Return the keys of all pixels, (1, N, C)."""
        return self._of("key", lambda counted: counted.pixels(x)[None])

    def value(self, x: Tensor) -> Tensor:
        """Return the values of all pixels, (1, N, C)."""
        return self._of("value", lambda counted: counted.pixels(x)[None])

    def _of(self, kind: str, measure: Callable[[Counted], Tensor]) -> Tensor:
        def measured() -> Tensor:
            assert self._counted is not None, "only a recording measures"
            return measure(self._counted)

        return self._take(f"{self._prefix}/{kind}", measured)


def _mean(x: Tensor, counted: Counted) -> Tensor:
    return (counted.pixels(x) * counted.shares(x)).sum(dim=0).float()[None]


def _products(x: Tensor, counted: Counted) -> Tensor:
    pixels = counted.pixels(x)
    return ((pixels * counted.shares(x).float()).T @ pixels)[None]


class _Exchange:
    """Numbers the calls of a model's modules, and gives each its statistics."""

    def __init__(self, model: nn.Module, take: Take, counted: Counted | None = None) -> None:
        if model.training:
            raise ValueError(
                "the network is in training mode, expected eval mode for the statistics of a scene: call "
                "eval()"
            )
        self.names = {module: name for name, module in model.named_modules()}
        self.calls: Counter[nn.Module] = Counter()
        self.take = take
        self.counted = counted

    def of(self, module: nn.Module) -> ModuleStatistics | None:
        """Return the statistics of a module's next call; None for a module of another model."""
        if module not in self.names:
            return None
        prefix = f"{self.names[module]}/{self.calls[module]}"
        self.calls[module] += 1
        return ModuleStatistics(prefix, self.take, self.counted)


_current: ContextVar[_Exchange | None] = ContextVar("image_wide_statistics", default=None)


def image_wide(module: nn.Module) -> ModuleStatistics | None:
    """Return the statistics that a module uses in this call; None where it takes its own."""
    exchange = _current.get()
    return None if exchange is None else exchange.of(module)


@contextmanager
def recording(model: nn.Module, counted: Counted) -> Iterator[SceneStatistics]:
    """Record the statistics of one call of the model within the `with`.

    The images of the batch are pooled: every module uses the statistics of all of them.

    Args:
        model: in eval mode.
        counted: which pixels of the batch take part.

    Yields:
        The statistics, complete after the call.
    """
    statistics = SceneStatistics({}, int(counted.mask.sum()))

    def take(name: str, measure: Callable[[], Tensor]) -> Tensor:
        statistics.tensors[name] = measure()
        return statistics.tensors[name]

    with _using(_Exchange(model, take, counted)):
        yield statistics


@contextmanager
def replaying(model: nn.Module, statistics: SceneStatistics) -> Iterator[None]:
    """Have one call of the model within the `with` use statistics that were recorded.

    Args:
        model: in eval mode.
        statistics: of the same weights.

    Raises:
        ValueError: the model needs statistics that were not recorded, or is called a second time.
    """
    device = next(model.parameters()).device

    def take(name: str, measure: Callable[[], Tensor]) -> Tensor:
        if name not in statistics.tensors:
            raise ValueError(
                f"the statistics of the scene lack {name!r}, expected those of one call of this network: "
                "survey the scene with the same weights, and open replaying() anew for each call"
            )
        return statistics.tensors[name].to(device)

    with _using(_Exchange(model, take)):
        yield


@contextmanager
def _using(exchange: _Exchange) -> Iterator[None]:
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)
