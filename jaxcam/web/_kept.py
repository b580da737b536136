"""What a server makes once and keeps for all visitors: the values that were used last, bounded in number."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax


class Kept:
    """Values by key, made on demand. Beyond `most` of them, the one that was used longest ago is forgotten.

    Threads that ask for one key at the same time get one value, which is made once.

    Example:
      >>> kept = Kept(most=2)
      >>> [kept.get(word, lambda: word.upper()) for word in ("a", "b", "c")], len(kept)
      (['A', 'B', 'C'], 2)
    """

    def __init__(self, most: int):
        self._most = most
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key; `make()` if there is none. A key whose `make` raises is not kept."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
            return self._values[key]

    def __len__(self) -> int:
        return len(self._values)


class Programs(Kept):
    """Compiled programs. `jax.jit` would keep every program that a visitor's choice of options makes.

    Example:
      >>> programs = Programs(most=8)
      >>> programs.run("double", lambda x: 2 * x, jax.numpy.arange(3)).tolist()
      [0, 2, 4]
    """

    def __init__(self, most: int):
        super().__init__(most)
        self._in_caches_of_jax: set[Hashable] = set()

    def run(self, name: Hashable, function: Callable[..., Any], *arguments: Any) -> Any:
        """The function's value, by a program that is compiled once for a name and the structure of the arguments.

        Args:
          name: of what the function computes; functions of one name must compute the same.
          function: takes pytrees of arrays.
          arguments: arrays of one name and structure must agree in shape and type.
        """
        key = name, jax.tree.structure(arguments)

        def compile_program() -> Any:
            self.note(key)
            return jax.jit(function).lower(*arguments).compile()

        return self.get(key, compile_program)(*arguments)

    def note(self, key: Hashable) -> None:
        """Counts a program that JAX is about to compile, and empties JAX's own caches once they hold `most` of them.

        JAX keeps what it compiled in caches of its own, also of functions that are forgotten. Programs that are kept
        here outlive them.
        """
        with self._lock:
            if len(self._in_caches_of_jax | {key}) > self._most:
                self._in_caches_of_jax.clear()
                jax.clear_caches()
            self._in_caches_of_jax.add(key)
