"""All tables of primitive names: what jaxcam knows about each primitive of JAX.

The first part is a partition: each primitive stands in exactly one list, by what its result is as a function of its
operands, and whether it is elementwise. The tables that the package reads are unions of these lists.

**To add a primitive of a new JAX version, write its name into one list of the first part.** A list states what the
primitive does for all its parameters. What depends on parameters is decided where they are read, such as `scatter`,
`integer_pow`, `div`, `rem` and `triangular_solve` in `derivatives/_program.py`. The lists of the last part have one
purpose each; their comments say when a new primitive belongs to them.

A primitive in no list is unknown. Derivatives and certificates stay right: `certify` counts it as smooth, `exact`
pushes derivatives through it by nested `jvp`, and a call is not entered. `guided` and `deconvnet` find no relu in it,
and take a maximum with zero that it reads for a relu, not for a guard.
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ---- The partition.
# Calls of a jaxpr.
JIT = _names("jit pjit")
PLAIN_CALLS = JIT | _names("closed_call core_call")
REMAT = _names("remat checkpoint remat2")
CUSTOM_VJP = _names("custom_vjp_call custom_vjp_call_jaxpr")
CUSTOM_JVP = _names("custom_jvp_call")

# Linear: the result is affine in all operands together.
IDENTITIES = _names("convert_element_type reduce_precision copy copy_p name")  # the operand's elements in another type
SUMS = _names("neg add sub add_any")
SELECTIONS = _names("select_n optimization_barrier")  # elementwise, each element that of one operand
REARRANGEMENTS = _names("reshape squeeze expand_dims transpose rev slice broadcast_in_dim")  # of one operand's elements
OTHER_LINEAR = _names(
    "pad tile concatenate split dynamic_slice dynamic_update_slice gather scatter scatter-add scatter_add reduce_sum "
    "reduce_window_sum cumsum real imag complex conj fft sharding_constraint device_put"
)
# Bilinear: linear in each operand while the other is held.
ELEMENTWISE_PRODUCTS = _names("mul")
CONTRACTIONS = _names("dot_general conv_general_dilated")
# Piecewise linear in all operands together.
CLIPS = _names("max min abs clamp")
OTHER_PIECEWISE_LINEAR = _names(
    "reduce_max reduce_min reduce_window_max reduce_window_min cummax cummin sort top_k select_and_gather_add "
    "select_and_scatter_add"
)
# Locally constant: the derivative is zero almost everywhere.
COMPARISONS_AND_ROUNDING = _names("eq ne lt le gt ge eq_to lt_to le_to sign floor ceil round is_finite")
POSITIONS = _names("argmax argmin")
STOP_GRADIENT = _names("stop_gradient")
# Elementwise and none of the above. What has no derivative in JAX, such as `and`, stands here as well.
SMOOTH_ELEMENTWISE = _names(
    "div rem pow integer_pow square sqrt rsqrt cbrt exp exp2 log log1p expm1 logistic tanh sin cos tan asin acos atan "
    "sinh cosh asinh acosh atanh atan2 erf erfc erf_inv lgamma digamma nextafter not and or xor"
)

# ---- The tables that the package reads.
# Read by `derivatives/_program.py`, for levels.
LINEAR = IDENTITIES | SUMS | SELECTIONS | REARRANGEMENTS | OTHER_LINEAR
BILINEAR = ELEMENTWISE_PRODUCTS | CONTRACTIONS  # and by `derivatives/_plan.py`: Leibniz's rule
# Affine in all operands together, with the same slope everywhere. Read by `derivatives/_shared_local.py`.
SUMS_OF_OPERANDS = SUMS | IDENTITIES
PIECEWISE_LINEAR = CLIPS | OTHER_PIECEWISE_LINEAR
LOCALLY_CONSTANT = COMPARISONS_AND_ROUNDING | POSITIONS | STOP_GRADIENT  # and by `tracing/_relus.py`
# Each element of the result depends on the same element of the operands. Read by `derivatives/_structure.py`, for runs
# of elementwise steps, and by `tracing/_relus.py`, for activations.
ELEMENTWISE = (
    IDENTITIES | SUMS | SELECTIONS | ELEMENTWISE_PRODUCTS | CLIPS | COMPARISONS_AND_ROUNDING | STOP_GRADIENT
) | SMOOTH_ELEMENTWISE
# Calls that `derivatives/_program.py`, `tracing/_relus.py` and `metrics/_randomization.py` write out.
CALLS = PLAIN_CALLS | REMAT | CUSTOM_VJP
# Calls with a derivative rule of their own. Read by the same, and by `tracing/_marks.py` and `tracing/_split.py`.
CUSTOM_RULES = CUSTOM_JVP | CUSTOM_VJP
# Read by `derivatives/_structure.py`: run on the numbers of elements, these tell where each element of the first
# operand goes.
INDEX_MAPS = REARRANGEMENTS | _names("pad copy copy_p")
# Read by `derivatives/_plan.py`: these may keep a direction from reaching anything.
MASKING = PIECEWISE_LINEAR | CUSTOM_JVP | _names("select_n")
# Read by `tracing/_relus.py`: the operand's elements, moved or cast; if all are one number, so are those of the result.
PASSING_ON = REARRANGEMENTS | IDENTITIES
# Read by `tracing/_relus.py`: elementwise and affine in each operand.
AFFINE_ELEMENTWISE = SUMS | IDENTITIES | ELEMENTWISE_PRODUCTS

# ---- Lists for one purpose.
# Read by `derivatives/_structure.py`: reductions of one operand over its parameter `axes`, and over the windows of its
# parameter `window_dimensions`. A new primitive belongs here only if it has these parameters, with the same meaning.
REDUCTIONS = _names("reduce_sum reduce_max reduce_min")
WINDOW_REDUCTIONS = _names("reduce_window_sum reduce_window_max reduce_window_min")
# Read by `tracing/_relus.py`: a function with its own rule that consists of these alone is a relu. A new primitive
# belongs here only if relus are written with it.
RELU_PARTS = _names("max min clamp select_n mul gt ge lt le not broadcast_in_dim") | IDENTITIES
# Read by `tracing/_relus.py`: undefined or infinite where the operand is negative or zero, so that a maximum with zero
# in front is a guard. Powers and denominators, which depend on the place and on parameters, are decided there.
NEEDS_NONNEGATIVE = _names("sqrt rsqrt log")
# Read by `tracing/_relus.py`: steps that may stand between a guard and what it guards, such as adding epsilon.
KEEPS_GUARDING = PASSING_ON | AFFINE_ELEMENTWISE | _names("max min clamp select_n")
# Read by `tracing/_marks.py`: a value that one of these makes is computed by the model, such as a batch's statistics,
# and not a value that the model was given. A new primitive belongs here if it takes part in a normalization.
ARITHMETIC = _names("add sub mul div max min select_n dot_general reduce_sum sqrt rsqrt stop_gradient")
# Read by `tracing/_channel_axes.py`: may change the length of an axis, which stays in its place.
RESIZING = WINDOW_REDUCTIONS | _names("concatenate pad slice dynamic_slice gather")
# Read by `tracing/_paths.py`: every axis of the operands stays where it is.
ALONG_ITS_AXES = (
    ELEMENTWISE
    | SELECTIONS
    | _names("pad rev concatenate slice dynamic_slice gather cumsum cummax cummin scatter dynamic_update_slice")
)
# Read by `tracing/_ranges.py`: the elements of the result are elements of the first operand.
PICKING_FROM_FIRST = (
    REARRANGEMENTS
    | IDENTITIES
    | STOP_GRADIENT
    | _names("reduce_max reduce_min dynamic_slice cummax cummin split sharding_constraint device_put")
)
# Read by `tracing/_normalized.py`: steps between a sum and a product that it divides, such as adding epsilon,
# and steps around the logarithm of a logsumexp.
INSIDE_DENOMINATORS = _names("add max div integer_pow")
INSIDE_LOGSUMEXP = _names("add max abs reduce_sum select_n")
