"""Digit canvases through Ray on three nodes, one killed twice: all maps, none twice, equal to one process's to 1e-6.

The nodes are processes of this machine (`ray.cluster_utils`), so they share its cores, and the rate shows what Ray and
the two deaths cost. The canvases are the embedded ones, shifted and dimmed, no two the same. Three actors explain them.
At a random moment after the first map, and at another one after a new node has joined, a node's processes are killed.
"""

import concurrent.futures
import os
import pathlib
import random
import tempfile
import time

import numpy as np

import jaxcam
from benchmarks import faulted, peers
from benchmarks.many_canvases import canvas, make_cut
from jaxcam.runtime.ray import explain_dataset

NODES = 3
CPUS_OF_A_NODE = 2  # an actor, and a task that draws canvases
DEATHS = 2


def measure(*, small: bool = False) -> dict:
    """Rates, and what is lost; small takes 300 canvases, and `JAXCAM_CANVASES` names another number than 20,000."""
    try:
        import ray
        from ray.cluster_utils import Cluster
    except ImportError as error:
        raise peers.Missing("it runs Ray: install the extra ray") from error
    count = 300 if small else int(os.environ.get("JAXCAM_CANVASES", 20_000))
    with tempfile.TemporaryDirectory() as folder:
        alone_out, ray_out = pathlib.Path(folder) / "alone.zarr", pathlib.Path(folder) / "ray.zarr"
        started = time.perf_counter()
        alone = jaxcam.explain_batch(
            jaxcam.grad_cam, make_cut(), range(count), load=canvas, names=[str(i) for i in range(count)], out=alone_out
        )
        seconds_alone = time.perf_counter() - started
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        try:
            nodes = [cluster.add_node(num_cpus=CPUS_OF_A_NODE) for _ in range(NODES)]
            ray.init(address=cluster.address, log_to_driver=False)
            dataset = ray.data.range(count, override_num_blocks=max(2 * NODES, count // 100)).map_batches(draw)
            started = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                # In a thread, because nodes are added by the main thread alone.
                running = pool.submit(
                    explain_dataset, dataset, make_cut, jaxcam.grad_cam, out=ray_out, num_cpus=1, concurrency=NODES,
                    batch_size=32,
                )  # fmt: skip
                moments = kill_nodes(cluster, nodes, ray_out, seconds_alone, running)
                explained = running.result()
            seconds_of_ray = time.perf_counter() - started
        finally:
            ray.shutdown()
            cluster.shutdown()
        distances = [np.abs(explained.maps[name] - alone.maps[name]).max() for name in explained.maps]
        return {
            "ratios": {
                "images per second, Ray / one process": seconds_alone / seconds_of_ray,
                "maps lost": count - len(explained.maps),
                "maps written twice": faulted.repeated(ray_out),
                "failures": len(explained.failed) + len(alone.failed),
                "largest difference of a map": float(max(distances)),
                "nodes killed": len(moments),
            },
            "bounds": {"maps lost": 0, "maps written twice": 0, "failures": 0, "largest difference": 1e-6},
            "canvases": count,
            "images per second": {"Ray": count / seconds_of_ray, "one process": count / seconds_alone},
            "seconds from the first map to a death": moments,
        }


def draw(batch: dict) -> dict:
    """Rows with the canvases of numbers."""
    return {"name": batch["id"].astype(str), "image": np.stack([canvas(int(number)) for number in batch["id"]])}


def kill_nodes(cluster, nodes: list, out: pathlib.Path, seconds: float, running) -> list[float]:
    """Kills a node and its successor at random moments after the first map; returns the moments, in seconds."""
    moments: list[float] = []
    while not (out / "run.json").exists() and not running.done():  # written with the first map
        time.sleep(0.1)
    started = time.perf_counter()
    for _ in range(DEATHS):
        concurrent.futures.wait([running], random.uniform(0.05, 0.4) * seconds)
        if running.done():
            break
        moments.append(round(time.perf_counter() - started, 1))
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        nodes.append(cluster.add_node(num_cpus=CPUS_OF_A_NODE))
    return moments
