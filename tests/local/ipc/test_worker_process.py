import pytest

from nbllm.local.ipc.worker_process import engine_environment


def test_the_users_variables_have_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setenv("SOME_VARIABLE", "kept")
    assert engine_environment()["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID", "the order of our tables"
    assert engine_environment()["SOME_VARIABLE"] == "kept"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert engine_environment()["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
