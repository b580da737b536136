"""The networks of a server: what visitors may choose, and nothing else."""

import threading

import jax
import jax.numpy as jnp
import pytest

import jaxcam
from jaxcam.web import Network, Networks
from jaxcam.web._kept import Kept, Programs


def test_a_visitor_chooses_among_layers_that_have_a_map(networks):
    described = {layer.name: layer for layer in jaxcam.describe_layers(jaxcam.digits())}
    choices = networks.layers("digits")
    assert [choice.name for choice in choices if choice.recommended] == ["block3_conv2"]
    for choice in choices:
        assert choice.shape == described[choice.name].shape and len(choice.shape) == 3
    left_out = described.keys() - {choice.name for choice in choices}
    assert all(len(described[name].shape) < 3 or described[name].reads_input for name in left_out)


def test_a_network_and_its_cuts_are_made_once(monkeypatch):
    network = Network("digits")
    built = []
    monkeypatch.setitem(network.__dict__, "source", network.source._replace(build=counted(network.source.build, built)))
    networks = Networks([network])
    first = networks.opened("digits", "block2_conv2")
    assert networks.opened("digits", "block2_conv2") is first and networks.opened(None) is networks.opened("digits")
    networks.layers("digits")
    assert len(set(map(id, built))) == 1, "one network in memory, however often it is opened"


def counted(build, built):
    def build_and_count():
        found = build()
        built.append(found.model)
        return found

    return build_and_count


def test_a_cut_has_its_one_layer():
    cut = jaxcam.cut(jaxcam.digits(), "block2_conv2")
    networks = Networks([Network(cut, {"input_size": 64})])
    [choice] = networks.layers("Cut")
    assert (choice.name, choice.shape, choice.recommended) == ("block2_conv2", (32, 32, 32), True)


def test_labels_have_no_folders(tmp_path):
    (tmp_path / "model.keras").touch()
    assert Network(str(tmp_path / "model.keras")).label == "model.keras"


def test_two_networks_of_one_name_are_refused():
    with pytest.raises(ValueError, match="expected networks with names that differ, got digits, digits"):
        Networks([Network("digits"), Network("digits", {"layer": "block2_conv2"})])
    with pytest.raises(ValueError, match="got none"):
        Networks([])


def test_threads_share_what_is_kept():
    kept, made, barrier = Kept(most=4), [], threading.Barrier(8)

    def make():
        made.append(1)
        return object()

    def ask(results):
        barrier.wait()
        results.append(kept.get("key", make))

    results: list = []
    threads = [threading.Thread(target=ask, args=(results,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len({id(value) for value in results}) == 1


def test_what_was_used_last_is_kept():
    kept = Kept(most=2)
    for key in "abac":
        kept.get(key, lambda: object())
    made = []
    kept.get("a", lambda: made.append("a"))
    kept.get("b", lambda: made.append("b"))
    assert made == ["b"] and len(kept) == 2


def test_what_cannot_be_made_is_not_kept():
    kept = Kept(most=2)

    def refuse():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        kept.get("key", refuse)
    assert kept.get("key", lambda: 3) == 3 and len(kept) == 1


def test_compiled_programs_are_bounded_and_outlive_the_caches_of_jax(monkeypatch):
    cleared = []
    clear = jax.clear_caches
    monkeypatch.setattr(jax, "clear_caches", lambda: (cleared.append(1), clear()))
    programs, x = Programs(most=2), jnp.arange(3.0)
    for factor in (2, 3, 4):
        assert programs.run(factor, lambda x, factor=factor: factor * x, x).tolist() == [0, factor, 2 * factor]
    assert len(programs) == 2 and cleared == [1]
    traced = []
    assert programs.run(3, lambda x: traced.append(1), x).tolist() == [0, 3, 6] and not traced
