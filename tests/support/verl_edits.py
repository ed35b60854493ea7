"""Edited copies of the installed verl, and what the self-test says of each: `python verl_edits.py FOLDER [NAME...]`.

A copy has folders of its own; its files are links to the installed package, but for the edited ones. The heavy packages are imported
once, and each copy is judged in a forked child that puts it first on sys.path. Prints one JSON object.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

TRAINER = "trainer/ppo/ray_trainer.py"
V1, V1_UTILS = "trainer/ppo/v1/trainer_base.py", "trainer/ppo/v1/utils.py"
ALGORITHMS, LOSSES = "trainer/ppo/core_algos.py", "workers/utils/losses.py"
LEGACY_CLASS = '@deprecated("Legacy trainer'

HARMLESS: dict[str, list[tuple[str, str, str]]] = {
    "comments": [
        (TRAINER, "# prepare response group", "# the groups of responses"),
        (LOSSES, "# compute policy loss", "# the policy's loss"),
        (ALGORITHMS, "# For numerical stability", "# against overflow"),
        ("trainer/ppo/utils.py", '"""Given the config, do we need ref policy."""',
         '"""Whether a reference is needed."""'),
        ("trainer/ppo/metric_utils.py", "        # score\n", "        # scores\n"),
        (V1, "# 3. compute advantages", "# 3. advantages"),
    ],
    "comment in compute_advantage": [(TRAINER, "# prepare response group", "# the groups of responses")],
}  # fmt: skip
GIVEN = (  # verl#7473
    "        # calculate advantage estimator\n",
    """        import inspect

        asked = inspect.signature(adv_estimator_fn).parameters
        if "batch" in asked:
            adv_kwargs["batch"] = data.batch
        if "non_tensor_batch" in asked:
            adv_kwargs["non_tensor_batch"] = data.non_tensor_batch
        # calculate advantage estimator
""",
)


def _installed(file: str) -> str:
    return (Path(importlib.util.find_spec("verl").origin).parent / file).read_text()


def _moved() -> list[tuple[str, str, str]]:
    """verl#7237: three functions in a module of their own, and handed out from where they were."""
    text = _installed(TRAINER)
    first = text[text.index("def apply_kl_penalty(") : text.index("def compute_spec_decode_metrics(")]
    second = text[text.index("def compute_advantage(") : text.index(LEGACY_CLASS)]
    head = (
        "from typing import Optional\n\nimport torch\n\nfrom verl import DataProto\nfrom verl.trainer.config import AlgoConfig\n"
        "from verl.trainer.ppo import core_algos\nfrom verl.trainer.ppo.core_algos import AdvantageEstimator\n"
        "from verl.utils.torch_functional import masked_mean\n\n\n"
    )
    names = "from verl.trainer.ppo.trainer_utils import "
    return [
        ("trainer/ppo/trainer_utils.py", "", head + first + second),
        (TRAINER, first, ""),
        (TRAINER, second, ""),
        (TRAINER, "from verl.utils import tensordict_utils as tu\n", f"{names}apply_kl_penalty, compute_advantage, compute_response_mask\nfrom verl.utils import tensordict_utils as tu\n"),
        (V1_UTILS, "from verl.trainer.ppo.ray_trainer import compute_advantage", f"{names}compute_advantage"),
        (V1, "from verl.trainer.ppo.ray_trainer import apply_kl_penalty, ", f"{names}apply_kl_penalty\nfrom verl.trainer.ppo.ray_trainer import "),
    ]  # fmt: skip


def _without_the_legacy_trainer() -> list[tuple[str, str, str]]:
    text = _installed(TRAINER)
    return [(TRAINER, text[text.index(LEGACY_CLASS) :], "")]


NEXT: dict[str, list[tuple[str, str, str]]] = {
    "compute_advantage in trainer_utils": _moved(),
    "estimators are given the batch": [(TRAINER, *GIVEN)],
    "without the legacy trainer": _without_the_legacy_trainer(),
    "hooks before the advantage": [  # verl#7894
        (
            V1,
            "        # 3. compute advantages\n",
            '        for hook in self.config.trainer.get("pre_advantage_hooks") or []:\n'
            "            from verl.utils.import_utils import load_class_from_fqn\n\n"
            '            data = load_class_from_fqn(hook, "hook")(data)\n        # 3. compute advantages\n',
        )
    ],
}
AT_ONCE = [  # all of them in one copy
    *_moved(),
    ("trainer/ppo/trainer_utils.py", *GIVEN),
    *_without_the_legacy_trainer(),
    *NEXT["hooks before the advantage"],
]


def mask_all(data):
    """A hook of verl#7894 that leaves no group of the batch."""
    data.batch["response_mask"] = data.batch["response_mask"] * 0
    return data


HARMFUL: dict[str, list[tuple[str, str, str]]] = {
    "argument of compute_advantage renamed": [
        (TRAINER, "    adv_estimator: AdvantageEstimator,\n    gamma: float = 1.0", "    estimator: AdvantageEstimator,\n    gamma: float = 1.0"),
        (TRAINER, "    # Back-compatible with trainers that", "    adv_estimator = estimator\n    # Back-compatible with trainers that"),
        (V1_UTILS, "adv_estimator=adv_estimator,", "estimator=adv_estimator,"),
    ],
    "ref_log_prob renamed in the batch": [(V1, '"ref_log_prob"', '"reference_log_prob"')],
    "ppo_loss does not call the registry": [
        (LOSSES, "get_policy_loss_fn(loss_mode)", 'get_policy_loss_fn("vanilla")'),
    ],
    "compute_advantage drops non-tensor columns": [
        (TRAINER, "    # prepare response group\n", "    data = data.select(non_tensor_batch_keys=[])\n"),
    ],
    "compute_advantage moved, the old name an alias": [
        (TRAINER, "def compute_advantage(", "def advantage_of_batch("),
        (TRAINER, LEGACY_CLASS, "compute_advantage = advantage_of_batch\n\n\n" + LEGACY_CLASS),
        (V1_UTILS, "import compute_advantage\n", "import advantage_of_batch as compute_advantage\n"),
    ],
    "argument of agg_loss renamed": [
        (file, "loss_mat", "loss_matrix")
        for file in (ALGORITHMS, LOSSES, V1, TRAINER)
    ],
}  # fmt: skip


def write_copy(folder: Path, edits: list[tuple[str, str, str]]) -> Path:
    """A package `verl` in `folder` with these edits; returns the folder."""
    installed = Path(importlib.util.find_spec("verl").origin).parent
    texts: dict[str, str] = {}
    for file, old, new in edits:
        text = texts.get(file) or ((installed / file).read_text() if old else "")
        if old not in text:
            raise ValueError(f"{file} of the installed verl has no {old!r}")
        texts[file] = text.replace(old, new) if old else new
    package = folder / "verl"
    shutil.copytree(installed, package, copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in texts.items():
        link = package / file
        assert not link.parent.is_symlink() and (link.is_symlink() or not link.exists()), (
            link
        )  # the installed verl stays
        link.unlink(missing_ok=True)
        link.write_text(text)
    return folder


def judge(folder: Path) -> list[str]:
    """What the self-test says with this copy of verl, in a child of this process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sys.path.insert(0, str(folder))
            importlib.invalidate_caches()
            import verl

            assert Path(verl.__file__).is_relative_to(folder), verl.__file__
            from frpo_verl.verl_plugin import selftest

            answer = selftest.run_selftest()
        except BaseException as error:  # noqa: BLE001 - the parent asserts on it
            answer = [f"no answer: {type(error).__name__}: {error}"]
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        answer = json.load(pipe)
    os.waitpid(child, 0)
    return answer


def main() -> None:
    import ray  # noqa: F401
    import torch
    import transfer_queue  # noqa: F401
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    work, wanted = Path(sys.argv[1]), sys.argv[2:]
    answers = {}
    for number, (name, edits) in enumerate({**HARMLESS, **NEXT, **HARMFUL}.items()):
        if not wanted or name in wanted:
            answers[name] = judge(write_copy(work / str(number), edits))
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
