"""Needed until verl looks at the nodes that its actors may land on (verl#7360): a node without the plugin is named at the start."""

from __future__ import annotations

from ..._version import __version__
from ...methods.settings import ConfigError

SECONDS = 180.0  # that the nodes have to answer


def _probe():
    """A function that tells what `import verl` loads; nested, so that Ray sends its code and not its name."""

    def look():
        import sys

        import verl  # noqa: F401 - opens the plugin's door, or doesn't

        return getattr(sys.modules.get("frpo_verl"), "__version__", None)

    return look


def check_nodes() -> None:
    """Ask a worker on every node of Ray's cluster what it loads; nothing is asked on a cluster of one node.

    Raises ConfigError: a node has no plugin, another version of it, or gave no answer; it is named.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    look = ray.remote(num_cpus=0, max_retries=0)(_probe())
    answers = {}
    for node in nodes:
        strategy = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        answers[look.options(scheduling_strategy=strategy).remote()] = node
    done, late = ray.wait(list(answers), num_returns=len(answers), timeout=SECONDS)
    problems = [(answers[ref], f"gave no answer within {SECONDS:g} s") for ref in late]
    for ref in done:
        try:
            version = ray.get(ref)
        except Exception as error:  # noqa: BLE001 - e.g. verl itself is missing there
            problems.append((answers[ref], f"could not import verl: {' '.join(str(error).split())[-200:]}"))
            continue
        if version != __version__:
            problems.append((answers[ref], f"has frpo-verl {version}" if version else "does not load frpo_verl"))
    if problems:
        node, what = problems[0]
        raise ConfigError(
            f"Ray node {node['NodeManagerAddress']} ({node['NodeID'][:8]}) {what}; here it is {__version__}: install the same "
            "frpo-verl on every node, or pass VERL_USE_EXTERNAL_MODULES=frpo_verl by ray_kwargs.ray_init.runtime_env.env_vars "
            f"({len(problems)} of {len(nodes)} nodes)"
        )
