"""A stand-in for Ray in one process: a dataset of rows, and one actor; after some batches it is killed."""

import pickle
import types

import numpy as np


class FromRay(Exception):
    """An error of Ray, whose text is a traceback."""


class Rows:
    """What jaxcam uses of a Ray dataset, in this process; after some batches it is killed."""

    def __init__(self, rows, *, killed_after=None, error=None, override_num_blocks=None):
        self.rows, self.killed_after, self.error = rows, killed_after, error or KeyboardInterrupt

    def take(self, count):
        return self.rows[:count]

    def map_batches(self, actor, *, fn_constructor_args, fn_constructor_kwargs, batch_size, **resources):
        self.explain = actor(*fn_constructor_args, **fn_constructor_kwargs)
        self.batch_size = batch_size
        return self

    def iter_batches(self, **options):
        for count, start in enumerate(range(0, len(self.rows), self.batch_size)):
            if count == self.killed_after:
                raise self.error
            rows = self.rows[start : start + self.batch_size]
            yield self.explain({name: column([row[name] for row in rows]) for name in rows[0]})


def column(values):
    """An array of arrays, as Ray has a column of several shapes."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def stand_in(from_items=Rows):
    """The module that jaxcam imports as `ray`."""
    ray = types.ModuleType("ray")
    ray.exceptions = types.SimpleNamespace(RayError=FromRay)
    ray.data, ray.cloudpickle = types.ModuleType("ray.data"), pickle
    ray.data.ActorPoolStrategy, ray.data.from_items = dict, from_items
    return ray
