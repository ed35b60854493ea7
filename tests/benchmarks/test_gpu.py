"""benchmarks/gpu.py: what is planned, what is kept, what a section that cannot run says, and the page."""

import json
import sys
from pathlib import Path

import gpu
import gpu_sections as sections
import pytest
from verl_config import compose_ppo

PLACE = sections.Place("cpu", True, None)


class Clock:
    """A row takes as many seconds as it says."""

    def __init__(self):
        self.time = 0.0

    def job(self, seconds, **row):
        def run():
            self.time += seconds
            return dict(row)

        return run


def section(jobs, share=0.5, **words):
    return sections.Section("Title", share, lambda place: jobs, **words)


def run(clock, parts, minutes, result):
    written = []
    gpu.run(parts, PLACE, minutes, result, lambda r: written.append(json.dumps(r)), now=lambda: clock.time)
    return written


def test_a_section_stops_when_its_time_is_over_and_goes_on_where_it_was():
    clock, result = Clock(), {}
    parts = {
        "a": section([(f"row {i}", clock.job(20, x=i)) for i in range(4)]),
        "b": section([("b", clock.job(1, y=1))]),
    }
    run(clock, parts, 2, result)  # a minute each: three rows of 20 s
    assert list(result["a"]["rows"]) == ["row 0", "row 1", "row 2"]
    assert result["a"]["note"] == "3 of 4 rows: the time was over"
    assert result["b"] == {"rows": {"b": {"y": 1, "seconds": 1}}, "note": ""}
    before = clock.time
    run(clock, parts, 2, result)
    assert clock.time - before == 20 and len(result["a"]["rows"]) == 4 and result["a"]["note"] == ""


def test_what_a_section_leaves_goes_to_the_next():
    clock, result = Clock(), {}
    rows = [(f"row {i}", clock.job(20)) for i in range(5)]
    run(clock, {"a": section([("a", clock.job(10))]), "b": section(rows)}, 2, result)
    assert len(result["b"]["rows"]) == 5  # 110 s of 120


def test_every_row_is_written_and_a_failure_ends_its_section_alone():
    clock, result = Clock(), {}

    def broken():
        raise RuntimeError("no room\non the device")

    parts = {
        "a": section([("good", clock.job(1, x=1)), ("bad", broken), ("never", clock.job(1))]),
        "b": section([("b", clock.job(1))], missing=lambda place: "no vllm in this environment"),
        "c": section([("c", clock.job(1, z=2))]),
    }
    written = run(clock, parts, 1, result)
    assert json.loads(written[0]) == {"a": {"rows": {"good": {"x": 1, "seconds": 1}}, "note": ""}}
    assert list(result["a"]["rows"]) == ["good"] and result["a"]["note"] == "bad: RuntimeError: no room on the device"
    assert result["b"] == {"rows": {}, "note": "no vllm in this environment"}
    assert result["c"]["rows"]["c"]["z"] == 2
    page = gpu.page(parts, result)
    assert "bad: RuntimeError: no room on the device." in page and "no vllm in this environment." in page
    assert "| c | 2 | 1 |" in page


def test_seeds_are_one_row_of_the_page():
    rows = {"the start": {"pass@1": 0.2, "seconds": 1.0}}
    rows |= {f"future, seed {i}": {"pass@1": i / 10, "seconds": 2.0} for i in (1, 2, 3)}
    page = gpu.page({"a": section([], by_seed=True)}, {"a": {"rows": rows, "note": ""}})
    assert "| future | 0.200 ± 0.248 | 3 |" in page and "| the start | 0.2 |  |" in page


def test_the_plan_is_whole():
    """Every section gives its rows without running one; shares add up; every method of a seed comes before the next seed."""
    assert sum(s.share for s in sections.SECTIONS.values()) == pytest.approx(1)
    whole = sections.Place("cuda", False, None)
    for name in ("sums", "gsm8k"):
        names = [row for row, _ in sections.SECTIONS[name].jobs(whole)]
        assert names[:4] == ["the start", "no KL, seed 1", "future, seed 1", "k3 loss, seed 1"] and len(names) == 16
    assert [row for row, _ in sections.SECTIONS["cost"].jobs(PLACE)] == ["losses", "advantage, on the CPU"]


@pytest.mark.parametrize("device, layout", [("cpu", "cpu"), ("cuda", "hf")])
def test_the_commands_of_main_ppo_compose(monkeypatch, tmp_path, device, layout):
    """Two steps with a checkpoint and a validation; the twin's files are not made here."""
    typed = {}
    monkeypatch.setattr(sections, "main_ppo", lambda place, name, words: typed.setdefault(name, words))
    monkeypatch.setattr(sections, "no_model", lambda place: None)
    monkeypatch.setattr(sections.ways_model, "build", lambda *args, **kwargs: None)
    monkeypatch.setattr(sections.twins, "make_files", lambda raw: None)
    made = sections.twin.Twin(["-m", "verl.trainer.main_ppo", "+recipe=smoke", "+check=twin"], "run")
    monkeypatch.setattr(sections.twin, "plan", lambda recipe, overrides: made)
    place = sections.Place(device, device == "cpu", tmp_path)
    for _, job in [*sections.trainer_jobs(place), *sections.vllm_jobs(place)]:
        job()
    assert set(typed) == {"smoke", "smollm2_135m", "smoke_vllm"}
    for name, words in typed.items():
        config = compose_ppo(*words)
        assert config.layout == ("cpu_vllm" if device == "cpu" and name == "smoke_vllm" else layout)
        assert config.actor_rollout_ref.rollout.name == ("vllm" if "vllm" in name else "hf")
        assert [config.trainer[k] for k in ("total_training_steps", "test_freq", "save_freq")] == [2, 2, 2]


def test_the_published_page_is_that_of_its_figures():
    folder = Path(gpu.__file__).parents[1] / "docs/results"
    figures = json.loads((folder / "gpu.json").read_text()) if (folder / "gpu.json").exists() else {}
    assert (folder / "gpu.md").read_text() == gpu.page(sections.SECTIONS, figures)


def test_without_a_gpu_nothing_is_published(monkeypatch, capsys):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "--tiny" in capsys.readouterr().err
