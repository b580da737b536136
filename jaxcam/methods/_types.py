"""What the methods take and return, for type checkers: the result's type follows from the cut and `standard_error`.

A `Cut` gives a map and `Cuts` give a dict of maps by layer; with `standard_error=` they come in a `jaxcam.Smoothed`,
and with `n_locations=` in a `jaxcam.Sampled`.
Type checkers see the options of a whole group of methods. At run time a method refuses an option that it does not have.
"""

from collections.abc import Callable
from typing import Literal, Protocol, TypedDict, TypeVar, Unpack, overload

import jax

from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import Cut, Cuts
from jaxcam.formulas import maps
from jaxcam.methods._sampled import Sampled
from jaxcam.perturbations import Smoothed

MapsByLayer = dict[str, jax.Array]
Maps = jax.Array | MapsByLayer | Smoothed[jax.Array | MapsByLayer] | Sampled[jax.Array | MapsByLayer]
# A rule for the weights: `(A, Y1) -> w`, or `(A, Y1, Y2, Y3) -> w`.
Rule = Callable[..., jax.Array]
Key = jax.Array | None
MapT_co = TypeVar("MapT_co", covariant=True)


class NoiseOptions(TypedDict, total=False):
    """Options of an average over noisy copies of the image; `jaxcam.gradient_cam` documents them."""

    n_samples: int
    std: jax.Array | float
    relative: bool
    batch_size: int | None
    mesh: jax.sharding.Mesh | None


class SampledOptions(NoiseOptions, total=False):
    """Options of the gradient-weighted methods that go with derivatives="sampled"."""

    score: Score
    link: str
    select: maps.Select | None
    numerator: str
    alpha: str


class GradientOptions(SampledOptions, total=False):
    """Options of the gradient-weighted methods; `numerator`, `alpha` and `compat` are those of Grad-CAM++ alone."""

    derivatives: str
    compat: str | None


class AverageOptions(NoiseOptions, total=False):
    """Options of averages of maps over noise; `score` is that of `jaxcam.smooth_grad` and its variants alone."""

    score: Score


class GradientMethod(Protocol):
    """A gradient-weighted method with a rule of its own, such as `jaxcam.grad_cam`."""

    __name__: str

    @overload
    def __call__(
        self, cut: Cut, image: Image, target: Target = None, key: Key = None, *,
        standard_error: None = None, **options: Unpack[GradientOptions],
    ) -> jax.Array: ...  # fmt: skip

    @overload
    def __call__(
        self, cut: Cuts, image: Image, target: Target = None, key: Key = None, *,
        standard_error: None = None, **options: Unpack[GradientOptions],
    ) -> MapsByLayer: ...  # fmt: skip

    @overload
    def __call__(
        self, cut: Cut, image: Image, target: Target = None, key: Key = None, *,
        standard_error: float, **options: Unpack[GradientOptions],
    ) -> Smoothed[jax.Array]: ...  # fmt: skip

    @overload
    def __call__(
        self, cut: Cuts, image: Image, target: Target = None, key: Key = None, *,
        standard_error: float, **options: Unpack[GradientOptions],
    ) -> Smoothed[MapsByLayer]: ...  # fmt: skip

    @overload
    def __call__(
        self, cut: Cut, image: Image, target: Target = None, key: Key = None, *,
        derivatives: Literal["sampled"], n_locations: int, **options: Unpack[SampledOptions],
    ) -> Sampled[jax.Array]: ...  # fmt: skip

    @overload
    def __call__(
        self, cut: Cuts, image: Image, target: Target = None, key: Key = None, *,
        derivatives: Literal["sampled"], n_locations: int, **options: Unpack[SampledOptions],
    ) -> Sampled[MapsByLayer]: ...  # fmt: skip


class RuleMethod(Protocol):
    """`jaxcam.gradient_cam`, which takes the rule."""

    __name__: str

    @overload
    def __call__(
        self, cut: Cut, image: Image, target: Target = None, key: Key = None, *, weigh: Rule, order: int,
        standard_error: None = None, **options: Unpack[GradientOptions],
    ) -> jax.Array: ...  # fmt: skip

    @overload
    def __call__(
        self, cut: Cuts, image: Image, target: Target = None, key: Key = None, *, weigh: Rule, order: int,
        standard_error: None = None, **options: Unpack[GradientOptions],
    ) -> MapsByLayer: ...  # fmt: skip

    @overload
    def __call__(
        self, cut: Cut, image: Image, target: Target = None, key: Key = None, *, weigh: Rule, order: int,
        standard_error: float, **options: Unpack[GradientOptions],
    ) -> Smoothed[jax.Array]: ...  # fmt: skip

    @overload
    def __call__(
        self, cut: Cuts, image: Image, target: Target = None, key: Key = None, *, weigh: Rule, order: int,
        standard_error: float, **options: Unpack[GradientOptions],
    ) -> Smoothed[MapsByLayer]: ...  # fmt: skip


class AverageMethod(Protocol[MapT_co]):
    """A method that averages maps, or gradients, over noise: the average of a method whose map is a `MapT_co`."""

    __name__: str

    @overload
    def __call__(
        self, cut: Cut | Cuts, image: Image, target: Target = None, key: Key = None, *,
        standard_error: None = None, **options: Unpack[AverageOptions],
    ) -> MapT_co: ...  # fmt: skip

    @overload
    def __call__(
        self, cut: Cut | Cuts, image: Image, target: Target = None, key: Key = None, *,
        standard_error: float, **options: Unpack[AverageOptions],
    ) -> Smoothed[MapT_co]: ...  # fmt: skip
