"""verl's own weight sender over real sockets: an engine that answers, one that is gone, one that dies in between."""

import asyncio
import importlib.util
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import zmq

from frpo_verl.methods.settings import ConfigError
from frpo_verl.verl_plugin import run
from frpo_verl.verl_plugin.guards import weight_transfer as wt
from frpo_verl.verl_plugin.hooks import wrap

pytestmark = pytest.mark.usefixtures("ours")


@pytest.fixture
def verl_module(monkeypatch):
    """verl's file, loaded without its package, which wants vLLM; on a machine without an accelerator."""
    verl = Path(importlib.util.find_spec("verl").origin).parent
    file = verl / "workers/rollout/vllm_rollout/bucketed_weight_transfer.py"
    spec = importlib.util.spec_from_file_location("bucketed_weight_transfer", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    nothing = SimpleNamespace(synchronize=lambda: None, empty_cache=lambda: None, ipc_collect=lambda: None)
    monkeypatch.setattr(module, "get_torch_device", lambda: nothing)
    monkeypatch.setattr(module, "is_support_ipc", lambda: False)
    return module


def send(module, address: str, weights) -> None:
    """The sender with the plugin's wraps, as a worker runs it."""

    class Sender(module.BucketedWeightSender):
        _init_socket = wrap(module.BucketedWeightSender._init_socket, lambda: wt.open_socket)
        async_send_weights = wrap(module.BucketedWeightSender.async_send_weights, lambda: wt.send_weights)

    asyncio.run(Sender(address, bucket_size_mb=1, use_shm=True).async_send_weights(iter(weights)))


def weights(buckets: int = 3):
    return [(f"layer{i}", torch.full((200_000,), float(i))) for i in range(buckets)]  # 0.8 MB: a bucket each


def test_an_engine_that_answers_gets_every_weight(verl_module, tmp_path, monkeypatch):
    monkeypatch.setenv(wt.LIMIT_VARIABLE, "20")
    address, received = f"ipc://{tmp_path}/s", {}
    receiver = verl_module.BucketedWeightReceiver(address, torch.device("cpu"), use_shm=True)

    def keep(bucket, is_last):
        received.update({name: float(value.mean()) for name, value in bucket})

    thread = threading.Thread(target=receiver.receive_weights, args=(keep,), daemon=True)
    thread.start()
    send(verl_module, address, weights())
    thread.join(10)
    assert received == {"layer0": 0.0, "layer1": 1.0, "layer2": 2.0}


@pytest.mark.parametrize("answers", [0, 1], ids=["gone", "dies between buckets"])
def test_an_engine_that_is_gone_is_named_in_time(verl_module, tmp_path, monkeypatch, answers):
    monkeypatch.setenv(wt.LIMIT_VARIABLE, "0.5")
    address = f"ipc://{tmp_path}/s"

    def answer():
        socket = zmq.Context.instance().socket(zmq.REP)
        socket.connect(address)
        socket.recv_pyobj()
        socket.send(b"")
        time.sleep(0.2)
        socket.close(linger=0)

    threads = [threading.Thread(target=answer, daemon=True) for _ in range(answers)]
    for thread in threads:
        thread.start()
    with pytest.raises(wt.RolloutEngineGone, match=r"did not take the new weights within 0.5 s.*checkpoint") as error:
        send(verl_module, address, weights())
    for thread in threads:
        thread.join(10)
    assert "\n" not in str(error.value) and isinstance(error.value.__cause__, zmq.Again)
    assert not (tmp_path / "s").exists()  # cleaned up as verl does


@pytest.mark.parametrize("is_ours, text", [(True, "0"), (False, "10")])
def test_without_a_limit_the_socket_waits_for_ever(monkeypatch, is_ours, text):
    monkeypatch.setenv(wt.LIMIT_VARIABLE, text)
    if not is_ours:
        run.forget()
    sender = SimpleNamespace(socket=zmq.Context.instance().socket(zmq.REQ))
    wrap(lambda self: None, lambda: wt.open_socket)(sender)
    assert sender.socket.getsockopt(zmq.RCVTIMEO) == sender.socket.getsockopt(zmq.SNDTIMEO) == -1
    sender.socket.close(linger=0)


@pytest.mark.parametrize("text, seconds", [("", 600.0), ("12.5", 12.5), ("0", None)])
def test_the_limit(monkeypatch, text, seconds):
    monkeypatch.setenv(wt.LIMIT_VARIABLE, text)
    assert wt.limit_seconds() == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, text):
    monkeypatch.setenv(wt.LIMIT_VARIABLE, text)
    with pytest.raises(ConfigError, match=f"{wt.LIMIT_VARIABLE}='{text}': must be a number of seconds"):
        wt.limit_seconds()
