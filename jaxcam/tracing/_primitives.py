"""TODO."""

# Entered as if written out where they are called.
CALLS = frozenset(
    "jit pjit closed_call core_call remat checkpoint remat2 custom_vjp_call custom_vjp_call_jaxpr".split()
)
ARITHMETIC = frozenset("add sub mul div max min select_n dot_general reduce_sum sqrt rsqrt stop_gradient".split())
RULES = frozenset("custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr".split())

# Joint in all operands: the result is affine where all of them are.
LINEAR = frozenset(
    "neg add sub add_any reshape transpose broadcast_in_dim squeeze expand_dims reduce_sum concatenate pad slice rev "
    "copy copy_p convert_element_type reduce_precision real imag complex conj cumsum reduce_window_sum fft split name "
    "optimization_barrier sharding_constraint device_put dynamic_slice dynamic_update_slice gather scatter scatter-add"
    " scatter_add tile select_n".split()
)
PIECEWISE_LINEAR = frozenset(
    "max min abs clamp reduce_max reduce_min reduce_window_max reduce_window_min cummax cummin sort top_k "
    "select_and_gather_add select_and_scatter_add".split()
)
STEPS = frozenset("eq ne lt le gt ge eq_to lt_to le_to sign floor ceil round is_finite argmax argmin".split())
BILINEAR = frozenset("mul dot_general conv_general_dilated".split())
ELEMENTWISE = frozenset(
    "neg add sub add_any mul div rem pow integer_pow square sqrt rsqrt cbrt exp exp2 log log1p expm1 logistic tanh sin "
    "cos tan asin acos atan sinh cosh asinh acosh atanh atan2 erf erfc erf_inv lgamma digamma max min abs clamp "
    "select_n convert_element_type reduce_precision copy copy_p name sign floor ceil round stop_gradient "
    "eq ne lt le gt ge not and or xor is_finite nextafter optimization_barrier".split()
)
